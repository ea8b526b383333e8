/** The part of the WebAssembly JavaScript API that Outpost uses. The compiler's own declaration comes only with all of the DOM. */
declare namespace WebAssembly {
  type ValueType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128' | 'funcref' | 'externref'
  type ImportExportKind = 'function' | 'global' | 'memory' | 'table' | 'tag'
  type ExportValue = ((...values: never[]) => unknown) | Global | Memory | Table
  type ImportValue = ExportValue | number
  type ModuleImports = Record<string, ImportValue>
  type Imports = Record<string, ModuleImports>
  type Exports = Record<string, ExportValue | undefined>
  interface ModuleImportDescriptor { readonly module: string; readonly name: string; readonly kind: ImportExportKind }
  interface ModuleExportDescriptor { readonly name: string; readonly kind: ImportExportKind }

  class Module {
    constructor(bytes: Uint8Array | ArrayBuffer)
    static imports(module: Module): ModuleImportDescriptor[]
    static exports(module: Module): ModuleExportDescriptor[]
    static customSections(module: Module, name: string): ArrayBuffer[]
  }
  class Instance {
    constructor(module: Module, imports?: Imports)
    readonly exports: Exports
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean })
    readonly buffer: ArrayBuffer
    grow(deltaPages: number): number
  }
  class Table {
    constructor(descriptor: { element: 'anyfunc' | 'externref'; initial: number; maximum?: number })
    readonly length: number
    get(index: number): unknown
    set(index: number, value: unknown): void
    grow(delta: number, value?: unknown): number
  }
  class Global {
    constructor(descriptor: { value: ValueType; mutable?: boolean }, value?: number | bigint)
    value: number | bigint
  }
  class RuntimeError extends Error {}
  class CompileError extends Error {}
  class LinkError extends Error {}
  function validate(bytes: Uint8Array | ArrayBuffer): boolean
  function compile(bytes: Uint8Array | ArrayBuffer): Promise<Module>
}
