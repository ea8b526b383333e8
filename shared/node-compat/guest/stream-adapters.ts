/** Between Node's streams and the web's. */
interface Readable extends AsyncIterable<unknown> {
  destroy(error?: unknown): void
}
interface Writable {
  write(chunk: unknown): boolean
  end(): void
  destroy(error?: unknown): void
  once(name: string, listener: (error?: unknown) => void): unknown
  removeListener(name: string, listener: (error?: unknown) => void): unknown
}
interface ReadableClass {
  from(source: AsyncIterable<unknown>, options?: object): unknown
}
type WritableClass = new (options: object) => unknown

export function toWebReadable(source: Readable): ReadableStream {
  const chunks = source[Symbol.asyncIterator]()
  return new ReadableStream({
    async pull(controller) {
      const step = await chunks.next()
      if (step.done === true) controller.close()
      // A Buffer is a view of its own class, which readers of bytes need not know.
      else controller.enqueue(step.value instanceof Uint8Array ? new Uint8Array(step.value.buffer, step.value.byteOffset, step.value.byteLength) : step.value)
    },
    cancel: (reason: unknown) => source.destroy(reason instanceof Error ? reason : undefined),
  }, { highWaterMark: 0 })
}

export function fromWebReadable(Class: ReadableClass): (stream: ReadableStream, options?: object) => unknown {
  return (stream, options) => Class.from(chunksOf(stream), { objectMode: false, ...options })
}

async function* chunksOf(stream: ReadableStream): AsyncGenerator {
  const reader = stream.getReader() as ReadableStreamDefaultReader<unknown>
  let ended = false
  try {
    for (;;) {
      const step = await reader.read()
      ended = step.done
      if (step.done) return
      yield step.value
    }
  } finally {
    // Who destroys the stream early lets its source go.
    if (!ended) void reader.cancel().catch(() => undefined)
  }
}

export function toWebWritable(target: Writable): WritableStream {
  const happens = (name: string): Promise<void> => new Promise((resolve, reject) => {
    const done = (): void => {
      target.removeListener('error', failed)
      resolve()
    }
    const failed = (error?: unknown): void => {
      target.removeListener(name, done)
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what was emitted
      reject(error)
    }
    target.once(name, done)
    target.once('error', failed)
  })
  return new WritableStream({
    write: (chunk) => (target.write(chunk) ? undefined : happens('drain')),
    close: () => {
      const finished = happens('finish')
      target.end()
      return finished
    },
    abort: (reason) => target.destroy(reason),
  })
}

export function fromWebWritable(Class: WritableClass): (stream: WritableStream, options?: object) => unknown {
  return (stream, options) => {
    const writer = stream.getWriter() as WritableStreamDefaultWriter<unknown>
    const tell = (promise: Promise<unknown>, done: (error?: unknown) => void): void => void promise.then(() => done(), done)
    return new Class({
      ...options,
      write: (chunk: unknown, _encoding: string, done: (error?: unknown) => void) => tell(writer.write(chunk), done),
      final: (done: (error?: unknown) => void) => tell(writer.close(), done),
      destroy: (error: unknown, done: (error?: unknown) => void) => (error === null ? done() : tell(writer.abort(error), () => done(error))),
    })
  }
}
