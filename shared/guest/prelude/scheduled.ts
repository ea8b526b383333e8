/** Scheduled events: the handler and all of its waitUntil work are one run, whose end is the answer. */
import { JSONParse } from './primordials.ts'
import { env } from './configuration.ts'
import { executionContext } from './context.ts'
import { missing, type Entrypoint } from './entrypoints.ts'
import { hostBodyText, hostRespond, RESPOND_JSON_OK } from './host.ts'
import { failInvocation, release, whenAllIsDone, whenSettled } from './invocation.ts'
import { nameAs, tag } from './webidl.ts'

let retryWanted = true

class ScheduledController {
  readonly cron: string
  /** ms since the epoch. */
  readonly scheduledTime: number

  constructor(cron: string, scheduledTime: number) {
    this.cron = cron
    this.scheduledTime = scheduledTime
  }

  get type(): string {
    return 'scheduled'
  }

  noRetry(): void {
    retryWanted = false
  }
}
tag(ScheduledController.prototype, 'ScheduledController')
nameAs(ScheduledController, 'ScheduledController')

/** Handler `scheduled` of a Selection. */
export function runScheduled(target: Entrypoint): void {
  const { cron, scheduledTime } = JSONParse(hostBodyText()) as { readonly cron: string; readonly scheduledTime: number }
  retryWanted = true
  whenAllIsDone(() => hostRespond(RESPOND_JSON_OK, retryWanted ? '{"noRetry":false}' : '{"noRetry":true}'))
  if (typeof target.scheduled !== 'function') throw missing('scheduled')
  whenSettled(target.scheduled(new ScheduledController(cron, scheduledTime), env, executionContext), release, failInvocation)
}
