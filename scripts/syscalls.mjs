// Writes src/engine/launch/seccomp/syscalls.generated.ts: the syscall numbers of x64 and arm64, from the kernel headers of two
// cross compilers, with the newer ones that Debian's headers lack appended. Run it by hand when Linux has new syscalls:
//
//   apt-get install gcc gcc-aarch64-linux-gnu && node scripts/syscalls.mjs
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

// Since Linux 5.11 all architectures give a new syscall the same number (kernel: scripts/syscall.tbl).
const NEWER = {
  451: 'cachestat', // 6.5
  452: 'fchmodat2', // 6.6
  453: 'map_shadow_stack', // 6.6
  454: 'futex_wake', // 6.7
  455: 'futex_wait', // 6.7
  456: 'futex_requeue', // 6.7
  457: 'statmount', // 6.8
  458: 'listmount', // 6.8
  459: 'lsm_get_self_attr', // 6.8
  460: 'lsm_set_self_attr', // 6.8
  461: 'lsm_list_modules', // 6.8
  462: 'mseal', // 6.10
  463: 'setxattrat', // 6.13
  464: 'getxattrat', // 6.13
  465: 'listxattrat', // 6.13
  466: 'removexattrat', // 6.13
  467: 'open_tree_attr', // 6.15
  468: 'file_getattr', // 6.17
  469: 'file_setattr', // 6.17
  470: 'listns', // 6.19
}
const ARCHITECTURES = {
  x64: { compiler: 'gcc', newer: { ...NEWER, 335: 'uretprobe', 336: 'uprobe' } }, // 6.11, 6.18
  arm64: { compiler: 'aarch64-linux-gnu-gcc', newer: NEWER },
}

function readNumbers({ compiler, newer }) {
  const preprocess = (flags, input) =>
    execFileSync(compiler, ['-E', ...flags, '-x', 'c', '-'], { input, encoding: 'utf8' })
  const names = [...preprocess(['-dM'], '#include <asm/unistd.h>\n').matchAll(/^#define __NR_(\w+)/gm)]
    .map(([, name]) => name)
    .filter((name) => name !== 'syscalls' && name !== 'arch_specific_syscall')
  const probe = `#include <asm/unistd.h>\n${names.map((name) => `@=${name}@ __NR_${name}\n`).join('')}`
  const numbers = new Map(Object.entries(newer).map(([number, name]) => [Number(number), name]))
  for (const [, name, number] of preprocess(['-P'], probe).matchAll(/^@=(\w+)@ (\d+)$/gm))
    numbers.set(Number(number), name)
  return [...numbers].sort(([a], [b]) => a - b)
}

/** Runs of consecutive numbers: `[first number, 'name name …']`. */
function formatRuns(numbers) {
  const runs = []
  let expected = -1
  for (const [number, name] of numbers) {
    if (number !== expected) runs.push([number, []])
    runs.at(-1)[1].push(name)
    expected = number + 1
  }
  return runs.map(([first, names]) => `    [${first}, '${names.join(' ')}'],\n`).join('')
}

const tables = Object.entries(ARCHITECTURES).map(
  ([architecture, source]) => `  ${architecture}: [\n${formatRuns(readNumbers(source))}  ],\n`,
)
writeFileSync(
  new URL('../src/engine/launch/seccomp/syscalls.generated.ts', import.meta.url),
  `/** Syscall names by number, as runs: the number of the first, then the names. Made by scripts/syscalls.mjs. */\n` +
    `export const SYSCALL_RUNS: Readonly<Record<'x64' | 'arm64', readonly (readonly [number, string])[]>> = {\n${tables.join('')}}\n`,
)
