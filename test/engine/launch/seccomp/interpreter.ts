/** Runs classic BPF as the kernel does for seccomp (Documentation/networking/filter.rst), and checks what the kernel checks. */

export interface Call {
  readonly audit: number
  readonly number: number
  readonly args?: readonly bigint[]
}

interface Instruction {
  readonly code: number
  readonly ifTrue: number
  readonly ifFalse: number
  readonly constant: number
}

export function decode(program: Buffer): Instruction[] {
  return Array.from({ length: program.length / 8 }, (_, index) => ({
    code: program.readUInt16LE(index * 8),
    ifTrue: program.readUInt8(index * 8 + 2),
    ifFalse: program.readUInt8(index * 8 + 3),
    constant: program.readUInt32LE(index * 8 + 4),
  }))
}

/** The value that the program returns, and how many instructions it took. */
export function interpret(
  instructions: readonly Instruction[],
  { audit, number, args = [] }: Call,
): { value: number; steps: number } {
  // struct seccomp_data as 32-bit words: number, architecture, instruction pointer, then the arguments, lower half first.
  const data = new Uint32Array(16)
  data[0] = number
  data[1] = audit
  for (const [index, argument] of args.entries()) {
    data[4 + 2 * index] = Number(BigInt.asUintN(32, argument))
    data[5 + 2 * index] = Number(BigInt.asUintN(32, argument >> 32n))
  }
  let accumulator = 0
  for (let at = 0, steps = 1; ; at++, steps++) {
    const instruction = instructions[at]
    if (!instruction) throw new Error(`ran off the end at ${at}`)
    const { code, ifTrue, ifFalse, constant } = instruction
    switch (code) {
      case 0x20:
        accumulator = data[constant / 4]!
        break
      case 0x54:
        accumulator = (accumulator & constant) >>> 0
        break
      case 0x05:
        at += constant
        break
      case 0x15:
        at += accumulator === constant ? ifTrue : ifFalse
        break
      case 0x25:
        at += accumulator > constant ? ifTrue : ifFalse
        break
      case 0x35:
        at += accumulator >= constant ? ifTrue : ifFalse
        break
      case 0x06:
        return { value: constant, steps }
      default:
        throw new Error(`opcode 0x${code.toString(16)} is not allowed in a filter`)
    }
  }
}
