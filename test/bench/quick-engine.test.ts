import { engineSlowdown } from '../../bench/engine-slowdown.ts'
import { guestTime } from '../../bench/guest-time.ts'
import { honoImage } from '../../bench/hono-image.ts'
import { pull } from '../../bench/pull.ts'
import { resetCost } from '../../bench/reset-cost.ts'
import { store } from '../../bench/store.ts'
import { testEach } from './quick.ts'

testEach([guestTime, resetCost, honoImage, engineSlowdown, store, pull])
