import t from 'tap'
import { AccountBook, ACCOUNTS_BUCKET } from '../../../shared/concurrency/account-book.ts'
import type { Documents } from '../../../shared/coordination/types.ts'
import { silentLog } from '../../../shared/log.ts'
import { eventually } from '../../support/dev-server.ts'
import { MemoryCoordination } from '../../support/memory-coordination.ts'

const A = '111111111111'

async function open(documents: Documents, concurrencyOf: (account: string) => number | null = () => null): Promise<AccountBook> {
  return AccountBook.open({ documents, defaultConcurrency: 1_000, concurrencyOf, log: silentLog })
}

async function makeDocuments(): Promise<Documents> {
  return new MemoryCoordination().documents(ACCOUNTS_BUCKET)
}

t.test('a document that cannot be read counts as none, and is replaced by the next change', async (t) => {
  const documents = await makeDocuments()
  await documents.update(A, Buffer.from('{"concurrency":"much"}'), 0)
  const book = await open(documents)
  t.match(book.limitsOf(A), { maximum: 1_000 })
  await book.setConcurrency(A, 5)
  t.match(book.limitsOf(A), { maximum: 5 })
})

t.test('too little left for others is refused in Lambda\'s words; less of what is reserved never is', async (t) => {
  const book = await open(await makeDocuments())
  await book.reserve(A, 'f', 900)
  await t.rejects(book.reserve(A, 'g', 1), { code: 'ERR_PARAMETER', message: /below its minimum value of \[100\]/ })
  await book.reserve(A, 'off', 0)
  await book.setConcurrency(A, 500)
  await t.rejects(book.reserve(A, 'f', 901), { code: 'ERR_PARAMETER', message: /minimum value of \[50\]/ })
  await book.reserve(A, 'f', 450)
  t.same([...book.limitsOf(A).reserved], [['f', 450], ['off', 0]])
  await book.unreserve(A, 'f')
  await book.unreserve(A, 'never')
  t.equal(book.reservedOf(A, 'f'), null)
  t.equal(book.reservedOf(A, 'off'), 0)
})

t.test('two nodes that reserve at once cannot both take the last of it', async (t) => {
  const documents = await makeDocuments()
  const [one, two] = [await open(documents), await open(documents)]
  const verdicts = await Promise.allSettled([one.reserve(A, 'f', 500), two.reserve(A, 'g', 500)])
  t.same(verdicts.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  await eventually(() => Promise.resolve([one, two].map((book) => [...book.limitsOf(A).reserved.keys()].join())), ([a, b]) => a === b && a !== '')
})

t.test('the document goes before the keys file, which goes before the default', async (t) => {
  const documents = await makeDocuments()
  const book = await open(documents, (account) => (account === A ? 7 : null))
  t.equal(book.limitsOf(A).maximum, 7)
  t.equal(book.limitsOf('222222222222').maximum, 1_000)
  await book.setConcurrency(A, 9)
  t.equal(book.limitsOf(A).maximum, 9)
  t.equal(book.limitsOf(A), book.limitsOf(A), 'the same object until something changes')
  await book.setConcurrency(A, null)
  t.equal(book.limitsOf(A).maximum, 7)
})

t.test('another process sees a change, and tells those who listen', async (t) => {
  const documents = await makeDocuments()
  const [one, two] = [await open(documents), await open(documents)]
  const heard: string[] = []
  const stop = two.onChange((account) => void heard.push(account))
  await one.setConcurrency(A, 3)
  await eventually(() => Promise.resolve(two.limitsOf(A).maximum), (maximum) => maximum === 3)
  t.same(heard, [A])
  stop()
})

t.test('reservations of functions that are gone are taken back', async (t) => {
  const book = await open(await makeDocuments())
  await book.reserve(A, 'there', 1)
  await book.reserve(A, 'gone', 1)
  await book.forget((_account, name) => name === 'there')
  t.same([...book.limitsOf(A).reserved.keys()], ['there'])
})
