import { noisyNeighbour } from '../../bench/noisy-neighbour.ts'
import { slowUpstream } from '../../bench/slow-upstream.ts'
import { zipf } from '../../bench/zipf.ts'
import { testEach } from './quick.ts'

testEach([noisyNeighbour, slowUpstream, zipf])
