/**
 * Docker's default seccomp profile (moby/profiles, June 2026), as data of our own arrangement: everything is refused with EPERM
 * except what is listed here.
 *
 * One difference, in the rule for `socket`. Docker's allows address families below 38, 39, and *above* 40. The kernel reads the
 * family as a 32-bit number but a filter sees the whole 64-bit register, so family 38 with a bit set in the upper half is above
 * 40 for the filter and AF_ALG for the kernel. We name the families above 40 one by one instead.
 */

import type { SeccompProfile, SeccompRule } from '../../options.js'

const ENOSYS = 38
const EPERM = 1

/** Flags of clone(2) that make a namespace: mount, cgroup, uts, ipc, user, pid, net. */
const CLONE_NAMESPACES = 0x7e020000

const FILES = `access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
  fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
  fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init
  inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat listmount listxattr listxattrat llistxattr lremovexattr lseek
  lsetxattr lstat mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64
  pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile
  setxattr setxattrat splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink
  unlinkat utime utimensat utimes vmsplice write writev`

const WAITING_AND_QUEUES = `epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
  eventfd eventfd2 futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list io_cancel io_destroy io_getevents
  io_pgetevents io_setup io_submit mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv
  msgsnd pipe pipe2 poll ppoll pselect6 select semctl semget semop semtimedop set_robust_list shmat shmctl shmdt shmget signalfd
  signalfd4 timerfd_create timerfd_gettime timerfd_settime`

const MEMORY = `brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
  mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages`

const PROCESSES = `capget capset execve execveat exit exit_group fork getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid
  getppid getpriority getresgid getresuid getrlimit getrusage getsid get_thread_area gettid getuid ioprio_get ioprio_set
  landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open prctl prlimit64 process_mrelease riscv_hwprobe rseq
  sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
  sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsuid
  setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid set_thread_area set_tid_address
  setuid sysinfo times uname uretprobe vfork wait4 waitid`

const SIGNALS = `kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
  rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill`

const TIME = `adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep
  setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime`

const SOCKETS = `accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
  sendto setsockopt shutdown socketpair`

/** Only 32-bit architectures have these, and those are refused as a whole; kept so that the list can be held against Docker's. */
const OF_32_BIT = `chown32 clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64
  fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64 getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32
  io_pgetevents_time64 ipc lchown32 _llseek lstat64 mmap2 mq_timedreceive_time64 mq_timedsend_time64 _newselect ppoll_time64
  pselect6_time64 recv recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 send sendfile64
  setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32 sigprocmask sigreturn
  socketcall stat64 statfs64 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 ugetrlimit
  utimensat_time64 waitpid`

/** What a capability opens, beyond the above. */
const BY_CAPABILITY: Readonly<Record<string, string>> = {
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
    syslog umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module init_module finit_module',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace',
  CAP_SYS_RAWIO: 'iopl ioperm',
  CAP_SYS_TIME: 'settimeofday stime clock_settime clock_settime64',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYSLOG: 'syslog',
  CAP_BPF: 'bpf',
  CAP_PERFMON: 'perf_event_open',
}

/** PER_LINUX, PER_LINUX32, UNAME26 and both, and the value that only asks. */
const PERSONALITIES = [0, 0x8, 0x20000, 0x20008, 0xffffffff]

/** AF_IB… without 38 (AF_ALG: kernel crypto, CVE-2026-31431) and 40 (AF_VSOCK: other machines of the host), up to AF_MCTP. */
const FAMILIES_FROM_38 = [39, 41, 42, 43, 44, 45]

function allow(names: string, more: Partial<SeccompRule> = {}): SeccompRule {
  return { names: names.trim().split(/\s+/), action: 'SCMP_ACT_ALLOW', ...more }
}

function allowWhen(name: string, op: string, value: number, more: Partial<SeccompRule> = {}): SeccompRule {
  return allow(name, { args: [{ index: 0, op, value, valueTwo: 0 }], ...more })
}

/** The profile of every container that is neither privileged nor given its own. */
export const DEFAULT_SECCOMP_PROFILE: SeccompProfile = Object.freeze({
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: EPERM,
  syscalls: [
    allow([FILES, WAITING_AND_QUEUES, MEMORY, PROCESSES, SIGNALS, TIME, SOCKETS, OF_32_BIT].join(' ')),
    // Before 4.8 a traced process could get around the filter.
    allow('process_vm_readv process_vm_writev ptrace', { includes: { minKernel: '4.8' } }),
    allowWhen('socket', 'SCMP_CMP_LT', 38),
    ...FAMILIES_FROM_38.map((family) => allowWhen('socket', 'SCMP_CMP_EQ', family)),
    ...PERSONALITIES.map((persona) => allowWhen('personality', 'SCMP_CMP_EQ', persona)),
    allow('arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls', {
      includes: { arches: ['arm', 'arm64'] },
    }),
    allow('arch_prctl', { includes: { arches: ['amd64', 'x32'] } }),
    allow('modify_ldt', { includes: { arches: ['amd64', 'x32', 'x86'] } }),
    ...Object.entries(BY_CAPABILITY).map(([capability, names]) => allow(names, { includes: { caps: [capability] } })),
    allowWhen('clone', 'SCMP_CMP_MASKED_EQ', CLONE_NAMESPACES, { excludes: { caps: ['CAP_SYS_ADMIN'] } }),
    // Its flags are behind a pointer. With ENOSYS the C library falls back to clone, whose flags a filter can read.
    {
      names: ['clone3'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: ENOSYS,
      excludes: { caps: ['CAP_SYS_ADMIN'] },
    },
  ],
})
