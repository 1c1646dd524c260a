/** What a container uses, as its control groups count it. `null` where this machine does not count. */
export interface ContainerStats {
  readonly cpu: {
    /** Processor time since the start, nanoseconds. */
    readonly usageNs: number | null
    readonly userNs: number | null
    readonly systemNs: number | null
    readonly periods: number | null
    readonly throttledPeriods: number | null
    readonly throttledNs: number | null
  }
  readonly memory: {
    readonly usageBytes: number | null
    /** `null` also when there is no limit. */
    readonly limitBytes: number | null
    readonly peakBytes: number | null
    /** Part of the usage that is page cache. */
    readonly cacheBytes: number | null
    readonly oomKills: number | null
  }
  readonly pids: {
    readonly current: number | null
    readonly limit: number | null
  }
  readonly blkio: {
    readonly readBytes: number | null
    readonly writeBytes: number | null
    readonly readOps: number | null
    readonly writeOps: number | null
  }
  /** Since the start; `null` without a network of its own. */
  readonly network: NetworkStats | null
}

/** Counters of a container's eth0, as the container sees it. */
export interface NetworkStats {
  readonly rxBytes: number
  readonly rxPackets: number
  readonly rxErrors: number
  readonly rxDropped: number
  readonly txBytes: number
  readonly txPackets: number
  readonly txErrors: number
  readonly txDropped: number
}

type StatGroups = Readonly<Record<string, Readonly<Record<string, number | null>> | null | undefined>>
type Group<Name extends 'cpu' | 'memory' | 'pids' | 'blkio'> = readonly (keyof ContainerStats[Name])[]

const CPU: Group<'cpu'> = ['usageNs', 'userNs', 'systemNs', 'periods', 'throttledPeriods', 'throttledNs']
const MEMORY: Group<'memory'> = ['usageBytes', 'limitBytes', 'peakBytes', 'cacheBytes', 'oomKills']
const PIDS: Group<'pids'> = ['current', 'limit']
const BLKIO: Group<'blkio'> = ['readBytes', 'writeBytes', 'readOps', 'writeOps']

/** The warden's reply to `stats`; what it left out is `null`. */
export function readStats(reply: object): ContainerStats {
  const { stats, network } = reply as { stats?: StatGroups; network?: NetworkStats | null }
  const pick = <Name extends string>(group: string, keys: readonly Name[]): Record<Name, number | null> => {
    const values = stats?.[group]
    return Object.fromEntries(keys.map((key) => [key, values?.[key] ?? null])) as Record<Name, number | null>
  }
  return {
    cpu: pick('cpu', CPU),
    memory: pick('memory', MEMORY),
    pids: pick('pids', PIDS),
    blkio: pick('blkio', BLKIO),
    network: network ?? null,
  }
}
