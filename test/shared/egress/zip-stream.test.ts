// What a guest's word for a format may be: anything.
import t from 'tap'
import { ZipStream } from '../../../shared/egress/zip-stream.ts'

t.test('a format that is a name of every object is unknown like any other', async (t) => {
  for (const format of ['constructor', 'toString', '__proto__', 'valueOf', 'br', '']) {
    const reason = await new Promise<string>((resolve) => {
      const zip = new ZipStream(format, { data: () => resolve('data'), fail: resolve, over: () => undefined })
      t.teardown(() => zip.abort())
    })
    t.equal(reason, `Unknown format ${format}`)
  }
})
