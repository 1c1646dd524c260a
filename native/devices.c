/* Device rules: version 1's devices.allow, and the same as a BPF program made by hand (no compiler, no libbpf).
 *
 * The kernel runs the program for each open and mknod of a device node with a struct bpf_cgroup_dev_ctx, and denies
 * unless it returns 1. Ours is a chain: every rule jumps to the next one on the first thing that does not match, or
 * returns 1. A request is allowed when one single rule covers all of its access bits, as in version 1's
 * match_exception(). */
#define _GNU_SOURCE
#include "devices.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_RULES 400     /* keeps the program below 4,096 instructions, old kernels' limit */
#define MAX_INSTRUCTIONS (6 + MAX_RULES * 8 + 2)
#define ANY (-1)

struct rule {
	int type;              /* BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR or ANY */
	int64_t major, minor;  /* or ANY */
	int access;            /* of BPF_DEVCG_ACC_* */
	char text[64];         /* "c 1:3 rwm", for devices.allow */
};

static bool parse_number(const char **at, int64_t *number)
{
	if (**at == '*') {
		(*at)++;
		*number = ANY;
		return true;
	}
	int digits = 0;
	for (*number = 0; **at >= '0' && **at <= '9' && digits < 10; (*at)++, digits++)
		*number = *number * 10 + (**at - '0');
	return digits > 0 && *number <= UINT32_MAX;
}

static bool parse_rule(const char *line, struct rule *rule)
{
	if (strncmp(line, "allow ", 6))
		return false;
	const char *at = line + 6;
	if (strlen(at) >= sizeof(rule->text))
		return false;
	strcpy(rule->text, at);
	rule->type = *at == 'c' ? BPF_DEVCG_DEV_CHAR : *at == 'b' ? BPF_DEVCG_DEV_BLOCK : ANY;
	if (!strchr("abc", *at) || *++at != ' ')
		return false;
	at++;
	if (!parse_number(&at, &rule->major) || *at++ != ':' || !parse_number(&at, &rule->minor) || *at++ != ' ')
		return false;
	for (rule->access = 0; *at; at++) {
		const char *letter = strchr("mrw", *at);           /* in the order of the BPF_DEVCG_ACC_ bits */
		if (!letter || rule->access & 1 << (letter - "mrw"))
			return false;
		rule->access |= 1 << (letter - "mrw");
	}
	return rule->access != 0;
}

/* The rule on the next line. 1, 0 at the end, -1 with the fault. */
static int next_rule(const char **rules, struct rule *rule, struct fault *f)
{
	*rules += strspn(*rules, "\n");
	size_t length = strcspn(*rules, "\n");
	if (!length)
		return 0;
	char line[80];
	bool fits = length < sizeof(line);
	snprintf(line, sizeof(line), "%.*s", (int)(fits ? length : sizeof(line) - 1), *rules);
	if (!fits || !parse_rule(line, rule))
		return fault(f, "device", line, EINVAL, "a device rule is `allow <a|b|c> <major|*>:<minor|*> <of r, w, m>`");
	*rules += length;
	return 1;
}

static int write_rule(int group_fd, const char *file, const char *text, struct fault *f)
{
	int fd = openat(group_fd, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fault(f, "cgroup", "devices", errno, "the device rules' file cannot be opened");
	ssize_t written = write(fd, text, strlen(text));
	int error = errno;
	close(fd);
	if (written < 0)
		return fault(f, "cgroup", "devices", error,
			error == EPERM ? "the group above does not allow this device itself" : text);
	return 0;
}

int devices_write_list(int group_fd, const char *rules, struct fault *f)
{
	struct rule rule;
	int more;
	if (write_rule(group_fd, "devices.deny", "a", f) < 0)
		return -1;
	while ((more = next_rule(&rules, &rule, f)) > 0) {
		/* Version 1 reads "a" as "everything", whatever numbers follow; block and character in turn says what is
		 * meant. */
		const char *types = rule.type == ANY ? "bc" : rule.type == BPF_DEVCG_DEV_CHAR ? "c" : "b";
		for (; *types; types++) {
			rule.text[0] = *types;
			if (write_rule(group_fd, "devices.allow", rule.text, f) < 0)
				return -1;
		}
	}
	return more;
}

static struct bpf_insn load_field(int to, int offset)
{
	return (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to, .src_reg = BPF_REG_1, .off = offset};
}

static struct bpf_insn with_constant(int operation, int to, int32_t constant)
{
	return (struct bpf_insn){.code = operation | BPF_K, .dst_reg = to, .imm = constant};
}

static struct bpf_insn copy_register(int to, int from)
{
	return (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = to, .src_reg = from};
}

/* Writes the program; returns its length or -1. r2 = type, r3 = access, r4 = major, r5 = minor, r6 = scratch.
 * Comparisons are of 32 bits (BPF_JMP32): major numbers above 2^31 would be sign-extended otherwise. */
static int assemble(const char *rules, struct bpf_insn *program, struct fault *f)
{
	enum { TYPE = BPF_REG_2, ACCESS, MAJOR, MINOR, SCRATCH };
	const int alu = BPF_ALU, jump = BPF_JMP32;
	int n = 0, more, count = 0;
	bool reachable = true;
	struct rule rule;
	program[n++] = load_field(TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	program[n++] = copy_register(ACCESS, TYPE);
	program[n++] = with_constant(alu | BPF_AND, TYPE, 0xffff);
	program[n++] = with_constant(alu | BPF_RSH, ACCESS, 16);
	program[n++] = load_field(MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	program[n++] = load_field(MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	while ((more = next_rule(&rules, &rule, f)) > 0) {
		if (++count > MAX_RULES)
			return fault(f, "device", "device-rules", E2BIG, "there are more than 400 device rules");
		if (!reachable)
			continue;
		int first = n;
		reachable = false;
		if (rule.type != ANY)
			program[n++] = with_constant(jump | BPF_JNE, TYPE, rule.type);
		if (rule.access != (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)) {
			program[n++] = copy_register(SCRATCH, ACCESS);
			program[n++] = with_constant(alu | BPF_AND, SCRATCH, ~rule.access);
			program[n++] = with_constant(jump | BPF_JNE, SCRATCH, 0);
		}
		if (rule.major != ANY)
			program[n++] = with_constant(jump | BPF_JNE, MAJOR, (int32_t)rule.major);
		if (rule.minor != ANY)
			program[n++] = with_constant(jump | BPF_JNE, MINOR, (int32_t)rule.minor);
		program[n++] = with_constant(alu | BPF_MOV, BPF_REG_0, 1);
		program[n++] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
		for (int i = first; i < n; i++)
			if (program[i].code == (jump | BPF_JNE | BPF_K)) {
				program[i].off = n - i - 1;
				reachable = true;
			}
	}
	/* After `allow a *:* rwm` nothing can be reached, and kernels such as 6.1 refuse a program with such
	 * instructions. */
	if (more < 0 || !reachable)
		return more < 0 ? -1 : n;
	program[n++] = with_constant(alu | BPF_MOV, BPF_REG_0, 0);
	program[n++] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
	return n;
}

/* bpf(2) refuses an attribute whose unused end is not zero, so callers zero all of it. */
static int bpf(int command, union bpf_attr *attribute)
{
	return (int)syscall(SYS_bpf, command, attribute, sizeof(*attribute));
}

int devices_load_program(const char *rules, struct fault *f)
{
	struct bpf_insn program[MAX_INSTRUCTIONS];
	int length = assemble(rules, program, f);
	if (length < 0)
		return -1;
	union bpf_attr attribute;
	memset(&attribute, 0, sizeof(attribute));
	attribute.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attribute.insns = (uintptr_t)program;
	attribute.insn_cnt = (uint32_t)length;
	attribute.license = (uintptr_t)"MIT";
	int fd = bpf(BPF_PROG_LOAD, &attribute);           /* the kernel marks it close-on-exec */
	if (fd < 0)
		return fault(f, "cgroup", "devices", errno, "the kernel does not take the device rules' program");
	return fd;
}

int devices_attach_program(int program_fd, int group_fd)
{
	union bpf_attr attribute;
	memset(&attribute, 0, sizeof(attribute));
	attribute.target_fd = (uint32_t)group_fd;
	attribute.attach_bpf_fd = (uint32_t)program_fd;
	attribute.attach_type = BPF_CGROUP_DEVICE;
	/* systemd attaches its own to services with MULTI; a program without that flag could not be attached below. */
	attribute.attach_flags = BPF_F_ALLOW_MULTI;
	return bpf(BPF_PROG_ATTACH, &attribute);
}
