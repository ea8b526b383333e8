/**
 * Whether the invocation under way is the first since `load`: the builder's synthetic one, whose effects are captured.
 * What is worth having in the image is made then; afterwards the machine is reset, and making it would only cost.
 */
export let isPriming = true
let invocationCount = 0

export function beginPriming(): void {
  isPriming = true
  invocationCount = 0
}

/** To be called at the start of each invocation. */
export function countInvocation(): void {
  if (isPriming && invocationCount++ > 0) isPriming = false
}
