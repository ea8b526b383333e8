import { honoHello } from '../../bench/hono-hello.ts'
import { httpJson } from '../../bench/http-json.ts'
import { httpLatency } from '../../bench/http-latency.ts'
import { testEach } from './quick.ts'

testEach([httpJson, httpLatency, honoHello])
