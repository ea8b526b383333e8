/** Ids that may not be mixed up. Each has exactly one parser, beside the code that owns the idea. */
declare const brand: unique symbol
export type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** Sixty-four lowercase hex digits: SHA-256 of an image's canonical bytes. */
export type ImageId = Brand<string, 'ImageId'>
/** `account/name@build`: one immutable build of a function. Never contains a version number or an alias. */
export type BuildKey = Brand<string, 'BuildKey'>
/** A UUID; accepted from a client if sane, else made here. */
export type RequestId = Brand<string, 'RequestId'>

export function assertNever(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`)
}
