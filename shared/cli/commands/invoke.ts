/** `outpost invoke NAME`: run a function once and print what it answered. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { CodedError } from '../../errors.ts'
import { ApiClient, resolveCredentials, type InvokeReply } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { functionName, resolveEndpoint } from '../options.ts'
import { QuietFailure } from '../output.ts'

interface InvokeOptions {
  readonly payload?: string
  readonly qualifier?: string
  readonly tail?: boolean
  readonly endpoint?: string
  readonly json?: boolean
}

export function addInvoke(program: Command, context: CliContext): void {
  program
    .command('invoke')
    .description('run a function once and print its answer')
    .argument('<name>', "the function's name")
    .option('-p, --payload <json>', 'JSON, or @file, or - for stdin (default: no payload)')
    .option('-q, --qualifier <qualifier>', 'a version, an alias or $LATEST')
    .option('--tail', 'print the log lines of this run to stderr')
    .option('--endpoint <url>', 'a POP or a region (default: OUTPOST_ENDPOINT, else http://127.0.0.1:8787)')
    .option('--json', 'print answer, place, version and log together as JSON')
    .action((name: string, options: InvokeOptions) => runInvoke(context, name, options))
}

async function runInvoke(context: CliContext, name: string, options: InvokeOptions): Promise<void> {
  const api = new ApiClient(resolveEndpoint(options.endpoint, context), resolveCredentials(context.env))
  const payload = await readPayload(options.payload, context)
  const reply = await api.invoke(functionName(name), payload, options.qualifier ?? null, options.tail === true)
  if (options.json === true) context.out(`${JSON.stringify(asJson(reply))}\n`)
  else {
    if (options.tail === true && reply.logTail !== null) context.err(reply.logTail)
    context.out(`${Buffer.from(reply.payload).toString()}\n`)
    if (reply.functionError !== null) context.err(`outpost: ${name} failed (${reply.functionError}); its answer tells how\n`)
  }
  if (reply.functionError !== null) throw new QuietFailure()
}

async function readPayload(text: string | undefined, context: CliContext): Promise<Uint8Array> {
  if (text === undefined) return new Uint8Array(0)
  const bytes = text === '-' ? Buffer.from(await context.readStdin()) : text.startsWith('@') ? readFile(text.slice(1), context.cwd) : Buffer.from(text)
  try {
    JSON.parse(bytes.toString())
  } catch (error) {
    throw new CodedError('ERR_PAYLOAD_NOT_JSON', [error instanceof Error ? error.message : String(error)])
  }
  return bytes
}

function readFile(path: string, cwd: string): Buffer {
  try {
    return readFileSync(resolve(cwd, path))
  } catch {
    throw new CodedError('ERR_ENTRY_NOT_FOUND', [path])
  }
}

function asJson(reply: InvokeReply): object {
  const text = Buffer.from(reply.payload).toString()
  return {
    status: reply.status,
    functionError: reply.functionError,
    executedVersion: reply.executedVersion,
    requestId: reply.requestId,
    place: reply.place,
    startKind: reply.startKind,
    payload: parsed(text),
    logTail: reply.logTail,
  }
}

/** An answer that is no JSON is shown as the text it is. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
