/** What a run of one test file gives, whoever runs it. */

/** One variant of one test file, as it is given to a runner. */
export interface TestFile {
  /** Relative to the suite, with the variant: `url/url-constructor.any.js?include=file`. */
  readonly id: string
  /** Path in the suite, without the variant. */
  readonly path: string
  /** Helpers that run before it, then itself: paths in the suite. */
  readonly scripts: readonly string[]
  readonly timeoutMs: number
}

/** Numbers of testharness.js. */
export const PASS = 0
export const PRECONDITION_FAILED = 4

export interface Subtest {
  readonly name: string
  /** Of testharness.js: 0 pass, 1 fail, 2 timeout, 3 not run, 4 a precondition does not hold. */
  readonly status: number
  readonly message: string | null
}

/** What the realm reports. `status` 0: the harness came to its end. */
export interface FileReport {
  readonly status: number
  readonly message: string | null
  readonly subtests: readonly Subtest[]
}

/** Stands for the harness itself among a file's subtests. */
export const HARNESS = '(harness)'

/** Runs files of one suite in fresh realms. */
export interface Runner {
  /** Never rejects: what stops a realm is a report with a status that is not 0. */
  run(file: TestFile): Promise<FileReport>
  close(): Promise<void>
}
