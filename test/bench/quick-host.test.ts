import { density } from '../../bench/density.ts'
import { memoryBudget } from '../../bench/memory-budget.ts'
import { testEach } from './quick.ts'

testEach([density, memoryBudget])
