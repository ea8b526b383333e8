import { hop } from '../../bench/hop.ts'
import { httpEvent } from '../../bench/http-event.ts'
import { testEach } from './quick.ts'

testEach([httpEvent, hop])
