/**
 * What a rewritten module and its host agree on. Every name and number that crosses between generated code and the
 * host is here and nowhere else.
 *
 * Memories. Index 0 is the guest's own memory, index 1 the flags memory, which no instruction of the guest can name.
 *
 *     flags memory, 129 wasm pages
 *     0x000000  dirty flags: byte i is 1 when granule i (512 bytes) of the guest memory was written since the last drain;
 *               the eight flags of one 4 KiB page are one 64-bit word
 *     0x800000  control block, 64 bytes
 *     0x810000  end
 *
 * L1. A store sets the flag of the granule of its first byte, before it writes. What it writes past the end of that
 *     granule is covered by the host, which restores DIRTY_TAIL_BYTES past each dirty granule.
 * L2. Bulk operations set the flags of every granule that they write.
 * L3. Flags of granules beyond the physical memory may be set by a store that then traps: the host clears and ignores them.
 * L4. Fuel below zero calls `outpost.refuel`. A result other than 0 ends the guest by `unreachable`.
 */

/** Module name of everything that a rewritten module imports from its host; a guest may not use it. */
export const HOST_MODULE = 'outpost'
/** Import name of the guest memory of a module that defined its own. An importing module keeps its import's name. */
export const MEMORY_IMPORT = 'memory'
/** Import name of the flags memory, always memory 1. */
export const FLAGS_IMPORT = 'flags'
/** Import name of `() -> i32`, called when fuel is below zero. It refills CONTROL_FUEL and returns 0, or returns another number. */
export const REFUEL_IMPORT = 'refuel'

/** Names that the rewriter adds to the exports begin so; a guest may not export such a name. */
export const EXPORT_PREFIX = 'outpost.'
/** The module's start function, if it had one. */
export const START_EXPORT = 'outpost.start'
/** `() -> ()`: writes all active data segments in order, with marking. Exported if there are any. May be called again. */
export const INIT_DATA_EXPORT = 'outpost.initData'
/** Followed by the index: a mutable global that the guest did not export. */
export const GLOBAL_EXPORT_PREFIX = 'outpost.global.'
/** Followed by the segment's index: i32 global, 1 once the guest dropped that segment. */
export const DATA_DROPPED_EXPORT_PREFIX = 'outpost.data.'
export const ELEMENT_DROPPED_EXPORT_PREFIX = 'outpost.element.'

/** Size of the granules that flags stand for: 512 bytes, the smallest of which a page's flags fill one word. */
export const GRANULE_SHIFT = 9
/** What the host restores past each dirty granule: a v128 store at its last byte writes 15 bytes into the next. */
export const DIRTY_TAIL_BYTES = 16
/** One flag for each granule of 4 GiB. */
export const FLAGS_BYTES = 0x800000
/** 64 KiB pages of the flags memory: the flags and one page for the control block. What is not touched takes no memory. */
export const FLAGS_PAGES = 129
export const FLAGS_MAXIMUM_PAGES = 129

/** Byte offset of the control block in the flags memory. */
export const CONTROL_OFFSET = 0x800000
/** i32: what is left before `outpost.refuel` is called. */
export const CONTROL_FUEL = CONTROL_OFFSET
/** i32: the guest's memory.size, in 64 KiB pages. */
export const CONTROL_VIRTUAL_PAGES = CONTROL_OFFSET + 4
/** i32: memory.grow fails beyond it, in 64 KiB pages; at most the memory's maximum. */
export const CONTROL_LIMIT_PAGES = CONTROL_OFFSET + 8
/** i32: 1 once the guest wrote a table. The host must then retire the slot, because tables are not restored. */
export const CONTROL_TABLE_WRITTEN = CONTROL_OFFSET + 12
export const CONTROL_BYTES = 64

/** Pages of 64 KiB by which memory.grow grows ahead: 1 MiB. Growth is a system call, moving the virtual size is not. */
export const GROW_SLACK_PAGES = 16
