/** `mayfly doctor`: prints the engine's diagnosis, one line for each finding. */
import { type Diagnosis, diagnose, type Finding, GROUPS } from '../engine/doctor.js'

const MARKS: Readonly<Record<Finding['verdict'], string>> = { works: '✓', fails: '✗', absent: '–' }

/** Resolves to the exit code: 0 when containers can run here, else 1. */
export async function doctor({ json = false }: { readonly json?: boolean }): Promise<number> {
  const diagnosis = await diagnose()
  process.stdout.write(json ? `${JSON.stringify(diagnosis, asJson, 2)}\n` : formatDiagnosis(diagnosis))
  return diagnosis.canRun ? 0 : 1
}

/** Bits beyond 2^53 do not survive as a JSON number. */
function asJson(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : value
}

export function formatDiagnosis({ canRun, machine, findings }: Diagnosis): string {
  const groups = GROUPS.map((group) => [group, findings.filter((finding) => finding.group === group)] as const)
  const sections = groups
    .filter(([, found]) => found.length > 0)
    .map(([group, found]) => `${group}\n${found.map((finding) => `  ${formatFinding(finding)}\n`).join('')}`)
  const verdict = canRun ? 'Containers run on this machine' : 'Containers cannot run on this machine as it is'
  const counts = `${count(findings, 'works')} ✓  ${count(findings, 'fails')} ✗  ${count(findings, 'absent')} –`
  return `Linux ${machine.kernel}, ${machine.architecture}, Node ${machine.nodeVersion}\n\n${sections.join('\n')}\n${verdict} (${counts})\n`
}

function formatFinding({ verdict, name, detail, why, remedy }: Finding): string {
  const explanation = verdict === 'works' ? detail : why
  return `${MARKS[verdict]} ${name}${explanation ? `: ${explanation}` : ''}${remedy ? `  →  ${remedy}` : ''}`
}

function count(findings: readonly Finding[], verdict: Finding['verdict']): number {
  return findings.filter((finding) => finding.verdict === verdict).length
}
