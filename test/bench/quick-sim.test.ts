import { simCold } from '../../bench/sim/cold-share.ts'
import { simHotSet } from '../../bench/sim/hot-set.ts'
import { simLimits } from '../../bench/sim/limit-growth.ts'
import { simProbe } from '../../bench/sim/probe.ts'
import { simRing } from '../../bench/sim/ring-load.ts'
import { testEach } from './quick.ts'

testEach([simHotSet, simProbe, simRing, simLimits, simCold])
