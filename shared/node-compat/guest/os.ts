/** `node:os`: what is the same for every function. Of the machine underneath a function learns nothing. */
import { constants as signals } from 'unenv/node/os'

export const EOL = '\n'
export const devNull = '/dev/null'
export const constants: unknown = signals
export const arch = (): string => 'x64'
export const platform = (): string => 'linux'
export const type = (): string => 'Linux'
export const release = (): string => ''
export const version = (): string => ''
export const machine = (): string => 'x86_64'
export const endianness = (): string => 'LE'
export const hostname = (): string => 'localhost'
export const homedir = (): string => '/'
export const tmpdir = (): string => '/tmp'
export const cpus = (): readonly object[] => []
export const availableParallelism = (): number => 1
export const loadavg = (): readonly number[] => [0, 0, 0]
export const networkInterfaces = (): object => ({})
export const uptime = (): number => performance.now() / 1000

export default { EOL, devNull, constants, arch, platform, type, release, version, machine, endianness, hostname, homedir, tmpdir, cpus, availableParallelism, loadavg, networkInterfaces, uptime }
