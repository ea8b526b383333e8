import t from 'tap'
import { existsSync } from 'node:fs'
import { siblingModule } from '../../shared/module-url.ts'

t.test('a sibling of a .ts file is a .ts file, of a .js file a .js file', async (t) => {
  t.equal(siblingModule('file:///app/shared/worker/host.ts', './worker-main').href, 'file:///app/shared/worker/worker-main.ts')
  t.equal(siblingModule('file:///app/dist/shared/worker/host.js', './worker-main').href, 'file:///app/dist/shared/worker/worker-main.js')
})

t.test('query strings of loaders do not hide the extension', async (t) => {
  t.equal(siblingModule('file:///app/a.ts?x=1', './b').href, 'file:///app/b.ts')
})

t.test('the address works in this checkout', async (t) => {
  t.ok(existsSync(siblingModule(import.meta.url, './module-url.test')))
})
