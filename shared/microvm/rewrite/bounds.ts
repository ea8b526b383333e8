/**
 * Bounds on what the rewriter takes. They keep decoding linear and its memory small, and stay below the limits of the
 * engine that compiles the result, so that a module is refused with a reason and not by a failed compilation.
 */

/** Bytes of one module. */
export const MODULE_BYTES_MAX = 32 * 1024 * 1024
/** Types, and defined and imported functions together. The rewriter adds a few of each below V8's 1,000,000. */
export const TYPES_MAX = 100_000
export const FUNCTIONS_MAX = 100_000
export const IMPORTS_MAX = 100_000
export const EXPORTS_MAX = 100_000
export const GLOBALS_MAX = 100_000
export const TABLES_MAX = 10
/** Data and element segments, each. */
export const SEGMENTS_MAX = 100_000
/** Entries of all element segments together. V8 takes 10,000,000 entries in one segment. */
export const ELEMENTS_MAX = 1_000_000
/** Entries of one table, at the start and after table.grow. V8 keeps some 24 bytes for each, outside of the guest's memory. */
export const TABLE_ENTRIES_MAX = 200_000
/** Parameters and locals of one function. V8 allows 50,000: the last 16 are left for the rewriter's own. */
export const LOCALS_MAX = 50_000 - 16
/** Parameters or results of one type; V8's bound. */
export const PARAMETERS_MAX = 1_000
/** Blocks inside blocks of one function. */
export const NESTING_MAX = 1_000
/** Labels of one br_table; V8's bound is 65,520. */
export const BRANCH_TABLE_MAX = 65_520
/** Bytes of one function body. */
export const BODY_BYTES_MAX = 4 * 1024 * 1024
/** The same once rewritten; V8's bound. A loop grows from 3 bytes to 36. */
export const REWRITTEN_BODY_BYTES_MAX = 7_654_321
/** Bytes of all bodies once rewritten. */
export const REWRITTEN_BYTES_MAX = 128 * 1024 * 1024
/** Bytes of one import or export name; V8's bound. */
export const NAME_BYTES_MAX = 100_000
