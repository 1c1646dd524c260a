#define _GNU_SOURCE
/* Archives in and out of trees: hostile archives first, each against a canary outside the root, then round trips with GNU
 * tar, bsdtar and Python's tarfile, then a race. Run as root; prints each failed check and ends with 1 if there was one. */
#include "tar_world.h"

/* --- cases --- */

static void absolute_link(const char *name, char link[PATH_MAX])
{
	snprintf(link, PATH_MAX, "%s/%s", world, name);
}

static void symbolic_links(void)
{
	char outside[PATH_MAX], etc[PATH_MAX + 32];

	absolute_link("outside", outside);
	begin("a link up and out stays inside the root");
	symlink_entry("up", "../../../../../../../../../etc");
	file("up/unbroken", "x");
	check(unpack(&as_layer) == 0);
	check(has_text("root/etc/unbroken", "x"));
	check_canary(__LINE__);

	begin("an absolute link stays inside the root");
	symlink_entry("out", outside);
	file("out/passwd", "evil");
	symlink_entry("a", "/b");
	symlink_entry("b", "../../c");
	file("a/deep/file", "y");
	check(unpack(&as_layer) == 0);
	check(has_text("root/c/deep/file", "y"));
	check_canary(__LINE__);
	snprintf(etc, sizeof(etc), "root%s/passwd", outside);
	check(has_text(etc, "evil"));

	begin("a file that is written over a link replaces the link");
	symlink_entry("passwd", at("outside/passwd"));
	file("passwd", "evil");
	check(unpack(&as_layer) == 0);
	check(has_text("root/passwd", "evil"));
	check_canary(__LINE__);

	begin("a directory that is written over a link replaces the link");
	symlink_entry("d", outside);
	header('5', "d", "", 0700, 0);
	file("d/passwd", "evil");
	check(unpack(&as_layer) == 0);
	check(is_directory("root/d") && has_text("root/d/passwd", "evil"));
	check_canary(__LINE__);

	begin("names with dots stop at the top");
	file("../canary", "evil");
	file("/../../x/../outside/passwd", "evil");
	check(unpack(&as_layer) == 0);
	check(has_text("root/canary", "evil") && has_text("root/outside/passwd", "evil"));
	check_canary(__LINE__);

	begin("the top cannot become a link");
	symlink_entry(".", outside);
	check(unpack(&as_layer) < 0 && last.error == EINVAL);
	symlink_entry("/.", outside);
	check(unpack(&as_layer) < 0 && last.error == EINVAL);
	symlink_entry("a/..", outside);
	check(unpack(&as_layer) < 0 && last.error == EINVAL);
	symlink_entry("", outside);
	check(unpack(&as_layer) < 0 && last.error == EINVAL);
	file("passwd", "evil");
	check(unpack(&as_layer) == 0);
	check_canary(__LINE__);

	begin("a link that goes round is an error");
	symlink_entry("a", "b");
	symlink_entry("b", "a");
	file("a/x", "x");
	check(unpack(&as_layer) < 0 && last.error == ELOOP && !strcmp(last.step, "archive"));

	begin("var/run -> /run works where run is not there yet");
	dir("var");
	symlink_entry("var/run", "/run");
	file("var/run/pid", "1");
	check(unpack(&as_layer) == 0);
	check(has_text("root/run/pid", "1"));

	begin("the parent is looked up again when it was replaced");
	file("d/one", "1");
	symlink_entry("d", outside);
	file("d/two", "2");
	check(unpack(&as_layer) == 0);
	check_canary(__LINE__);
	check(!exists("root/d/one"));
}

static void hard_links(void)
{
	begin("a hard link's absolute and climbing targets lie inside the root");
	file("etc/passwd", "inside");
	hard_link("absolute", "/etc/passwd");
	hard_link("climbing", "../../../../etc/passwd");
	hard_link("deep/down", "/etc/../../../etc/passwd");
	check(unpack(&as_layer) == 0);
	check(status("root/etc/passwd").st_nlink == 4);
	check_canary(__LINE__);

	begin("a hard link to what only the outside has fails");
	hard_link("stolen", at("outside/passwd"));
	check(unpack(&as_layer) < 0 && last.error == ENOENT && strstr(last.message, "hard link"));
	check_canary(__LINE__);

	begin("a hard link to a link is a link, and its mode goes nowhere");
	symlink_entry("link", at("outside/passwd"));
	header('1', "again", "link", 0777, 0);
	header('0', "again", "", 0777, 0);
	check(unpack(&as_layer) == 0);
	check(S_ISREG(status("root/again").st_mode) && S_ISLNK(status("root/link").st_mode));
	check_canary(__LINE__);

	begin("a hard link through a linked directory stays inside");
	symlink_entry("dir", at("outside"));
	hard_link("stolen", "dir/passwd");
	check(unpack(&as_layer) < 0 && last.error == ENOENT);
	check_canary(__LINE__);

	begin("a hard link to itself changes nothing");
	file("a", "a");
	hard_link("a", "a");
	check(unpack(&as_layer) == 0 && has_text("root/a", "a"));
	hard_link("b", "");
	check(unpack(&as_layer) < 0 && last.error == EINVAL);

	begin("a target is looked up again when its directory was replaced");
	file("d/x", "old");
	hard_link("one", "d/x");
	file("d", "");
	file("e/x", "new");
	symlink_entry("d", "e");
	hard_link("two", "d/x");
	check(unpack(&as_layer) == 0);
	check(has_text("root/one", "old") && has_text("root/two", "new"));
}

static void whiteouts(void)
{
	static const char *const nameless[] = { ".wh.", ".wh..", ".wh...", "etc/.wh..", "etc/.wh...", "etc/.wh." };

	for (size_t i = 0; i < sizeof(nameless) / sizeof(*nameless); i++) {
		begin("a whiteout must name something");
		dir("etc");
		file(nameless[i], "");
		check(unpack(&as_layer) < 0 && last.error == EINVAL && strstr(last.message, "whiteout"));
		check(is_directory("root/etc"));
		check_canary(__LINE__);
	}

	begin("whiteouts become overlay's");
	file("etc/.wh.gone", "");
	file("data/.wh..wh..opq", "");
	file("data/new", "new");
	file(".wh..wh.plnk/1.2", "aufs");
	file(".wh..wh.aufs", "aufs");
	check(unpack(&as_layer) == 0);
	check(is_whiteout("root/etc/gone") && is_opaque("root/data") && !is_opaque("root/etc"));
	check(!exists("root/.wh..wh.plnk") && !exists("root/.wh..wh.aufs") && !exists("root/etc/.wh.gone"));

	begin("a whiteout does not follow links");
	symlink_entry("out", at("outside"));
	file("out/.wh.passwd", "");
	check(unpack(&as_layer) < 0 && last.error == ELOOP);
	symlink_entry("etc", "/real");
	dir("real");
	file("real/passwd", "x");
	file("etc/.wh.passwd", "");
	check(unpack(&as_layer) < 0 && last.error == ELOOP);
	check(has_text("root/real/passwd", "x"));
	symlink_entry("opq", "/real");
	file("opq/.wh..wh..opq", "");
	check(unpack(&as_layer) < 0 && last.error == ELOOP && !is_opaque("root/real"));
	check_canary(__LINE__);

	begin("a whiteout of a link touches the link's name only");
	symlink_entry("out", at("outside"));
	file(".wh.out", "");
	check(unpack(&as_layer) == 0);
	check(S_ISLNK(status("root/out").st_mode)); /* the layer's own: only lower ones are hidden */
	check_canary(__LINE__);

	begin("what a layer brings is not hidden by its own whiteout");
	file("a", "a");
	file(".wh.a", "");
	file("d/x", "x");
	file(".wh.d", "");
	file(".wh.later", "");
	file("later", "later");
	file(".wh.tree", "");
	dir("tree");
	check(unpack(&as_layer) == 0);
	check(has_text("root/a", "a") && has_text("root/d/x", "x") && has_text("root/later", "later"));
	check(is_opaque("root/d") && is_opaque("root/tree"));

	begin("a directory may not have a whiteout's name");
	file(".wh.d/x", "");
	check(unpack(&as_layer) < 0 && last.error == EINVAL);
	file("a/.wh..wh.b/x", "");
	check(unpack(&as_layer) < 0 && last.error == EINVAL);

	begin("outside of layers a whiteout's name is a name");
	file(".wh.a", "a");
	check(unpack(&as_tree) == 0 && has_text("root/.wh.a", "a"));

	begin("overlay's own marks cannot be smuggled in");
	pax("SCHILY.xattr.trusted.overlay.opaque", "y", "SCHILY.xattr.user.overlay.redirect", "/etc",
		"SCHILY.xattr.user.kept", "yes", NULL);
	dir("d");
	check(unpack(&as_layer) == 0);
	char value[8];
	check(!is_opaque("root/d") && lgetxattr(at("root/d"), "user.overlay.redirect", value, 8) < 0);
	check(lgetxattr(at("root/d"), "user.kept", value, 8) == 3);
	node('3', "w", 0, 0);
	check(unpack(&as_layer) < 0 && last.error == EINVAL && !exists("root/w"));
	node('3', "w", 0, 0);
	check(unpack(&as_tree) < 0 && last.error == EINVAL && !exists("root/w"));
}

/* What overlay itself makes of an unpacked layer over a lower one, with both kinds of marks. */
static void overlays(void)
{
	for (int user = 0; user < 2; user++) {
		struct tar_options options = as_layer;

		begin(user ? "overlay with userxattr honours the marks" : "overlay honours the marks");
		options.userxattr = user;
		check(run("cd %s && mkdir -p lower/etc lower/data lower/tree view && echo l | tee lower/etc/gone lower/etc/kept "
			"lower/data/old lower/tree/old >/dev/null", at("root")) == 0);
		file("layer/etc/.wh.gone", "");
		file("layer/data/.wh..wh..opq", "");
		file("layer/data/new", "new");
		file("layer/.wh.tree", "");
		file("layer/tree/new", "new");
		raw(NULL, 1024);
		check(mkdir(at("root/layer"), 0755) == 0);
		check(unpack_raw("", &options) == 0);
		pid_t child = fork();
		if (child == 0) {
			char data[3 * PATH_MAX];

			snprintf(data, sizeof(data), "lowerdir=%s:%s%s", at("root/layer"), at("root/lower"), user ? ",userxattr" : "");
			if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
					mount("overlay", at("root/view"), "overlay", MS_RDONLY, data) < 0)
				_exit(77);
			_exit(exists("root/view/etc/gone") | exists("root/view/data/old") << 1 | exists("root/view/tree/old") << 2 |
				!exists("root/view/etc/kept") << 3 | !exists("root/view/data/new") << 4 | !exists("root/view/tree/new") << 5);
		}
		int state;

		waitpid(child, &state, 0);
		if (WIFEXITED(state) && WEXITSTATUS(state) == 77)
			printf("skipped: %s: overlay cannot be mounted here\n", test_name);
		else
			check(state == 0);
	}
}

static void malformed(void)
{
	static char long_name[65536 + 1];

	memset(long_name, 'n', sizeof(long_name) - 1);
	begin("a name of 64 KiB is an error");
	pax("path", long_name, NULL);
	file("x", "");
	check(unpack(&as_tree) < 0 && last.error == ENAMETOOLONG);
	for (size_t i = 1; i < sizeof(long_name) - 1; i += 2)
		long_name[i] = '/';
	header('L', "././@LongLink", "", 0, sizeof(long_name));
	content(long_name, sizeof(long_name));
	file("x", "");
	check(unpack(&as_tree) < 0 && last.error == ENAMETOOLONG);
	header('K', "././@LongLink", "", 0, sizeof(long_name));
	content(long_name, sizeof(long_name));
	symlink_entry("x", "y");
	check(unpack(&as_tree) < 0 && last.error == ENAMETOOLONG);

	begin("a PAX size that lies is an error");
	pax("size", "1000000", NULL);
	file("x", "short");
	check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	static const char *const sizes[] = { "-1", "9223372036854775807", "99999999999999999999999", "0x10", "1 ", "" };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) - 1; i++) {
		pax("size", sizes[i], NULL);
		file("x", "short");
		check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	}
	pax("size", "", NULL); /* takes the record back */
	file("x", "short");
	check(unpack(&as_tree) == 0 && has_text("root/x", "short"));

	static const char *const records[] = {
		"99 path=x\n", "9 path=xy", "0 path=x\n", "10 pathxyz\n", "5 =x\n\n", "-1 path=x\n", "99999999999999999999 path=x\n",
		"x path=x\n", "3 \n", "2\n", "8 uid=-1\n", "19 uid=4294967295\n\n", "12 mtime=1x\n",
	};
	begin("malformed PAX records are errors");
	for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
		pax_raw('x', records[i], strlen(records[i]));
		file("x", "");
		check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	}
	pax_raw('x', "11 path=a\0b\n", 12);
	file("x", "");
	check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	header('x', "p", "", 0644, 1 << 30);
	check(unpack(&as_tree) < 0 && last.error == E2BIG);

	begin("a wrong checksum is an error");
	header('0', "x", "", 0644, 0)[0] = 'y';
	check(unpack(&as_tree) < 0 && last.error == EBADMSG && strstr(last.message, "checksum"));
	check(!exists("root/x") && !exists("root/y"));

	begin("unknown kinds are errors");
	header('Z', "x", "", 0644, 0);
	check(unpack(&as_tree) < 0 && last.error == ENOTSUP);

	begin("an archive cut anywhere inside an entry is an error");
	for (size_t cut = 1; cut < 512 + 512 + 512 + 1024; cut += 97) {
		pax("mtime", "1.5", NULL);
		file("x", "some content");
		archive_length = cut;
		check(unpack_raw("", &as_tree) < 0 && last.error == EBADMSG);
	}
	file("x", "end");
	check(unpack_raw("", &as_tree) == 0); /* only the end marks are missing */
	check(unpack_raw("", &as_tree) == 0); /* nothing at all */
	raw(NULL, 512);
	file("x", "after one block of zeros");
	check(unpack_raw("", &as_tree) < 0 && last.error == EBADMSG);

	begin("what follows the end is read and dropped");
	file("x", "x");
	raw(NULL, 1024);
	for (int i = 0; i < 100; i++)
		raw("garbage!", 8);
	check(unpack_raw("", &as_tree) == 0);

	begin("limits hold");
	struct tar_options few = as_tree;
	few.max_entries = 1000;
	for (int i = 0; i < 1001; i++)
		header('0', "same", "", 0644, 0);
	check(unpack(&few) < 0 && last.error == E2BIG && result.entries == 1001);
	few = as_tree;
	few.max_bytes = 10;
	file("a", "12345");
	file("b", "123456");
	check(unpack(&few) < 0 && last.error == EFBIG && !exists("root/b"));

	begin("global headers are passed over");
	pax_raw('g', "14 path=global\n", 15);
	file("x", "x");
	check(unpack(&as_tree) == 0 && has_text("root/x", "x") && !exists("root/global"));
}

static void a_million_entries(void)
{
	begin("a million empty entries go through in little memory");
	int ends[2];

	check(pipe2(ends, O_CLOEXEC) == 0);
	pid_t writer = fork();
	if (writer == 0) {
		char *h = header('5', "d", "", 0755, 0);
		char *block = malloc(512 * 1000);

		for (int i = 0; i < 1000; i++)
			memcpy(block + 512 * i, h, 512);
		for (int i = 0; i < 1000; i++)
			if (write(ends[1], block, 512 * 1000) != 512 * 1000)
				_exit(1);
		_exit(0);
	}
	close(ends[1]);
	last = (struct fault){ 0 };
	struct tar_options loose = { .layer = true };
	check(tar_unpack(ends[0], root_fd, "", &loose, &result, &last) == 0);
	check(result.entries == 1000000);
	close(ends[0]);
	int state;
	waitpid(writer, &state, 0);
	check(state == 0);
}

static void sparse_files(void)
{
	begin("GNU's old sparse format");
	char *h = header('S', "old", "", 0644, 8);

	memset(h + 345, 0, 167);
	memcpy(h + 257, "ustar  ", 8);
	snprintf(h + 386, 12, "%011o", 4096);
	snprintf(h + 398, 12, "%011o", 4);
	snprintf(h + 410, 12, "%011o", 8192);
	snprintf(h + 422, 12, "%011o", 0);
	h[482] = 1;
	snprintf(h + 483, 12, "%011o", 16384);
	sum(h);
	raw(NULL, 512);
	h = archive + archive_length - 512;
	snprintf(h, 12, "%011o", 12288);
	snprintf(h + 12, 12, "%011o", 4);
	content("headtail", 8);
	file("next", "next");
	check(unpack(&as_tree) == 0);
	check(status("root/old").st_size == 16384 && has_text("root/next", "next"));
	char bytes[16384] = "";
	int fd = open(at("root/old"), O_RDONLY | O_CLOEXEC);
	check(read(fd, bytes, sizeof(bytes)) == 16384);
	close(fd);
	check(!memcmp(bytes + 4096, "head", 4) && !memcmp(bytes + 12288, "tail", 4) && !bytes[0] && !bytes[8192]);

	begin("PAX sparse formats");
	pax("GNU.sparse.size", "5000", "GNU.sparse.numblocks", "2", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "2",
		"GNU.sparse.offset", "4998", "GNU.sparse.numbytes", "2", NULL);
	file("zero-zero", "abcd");
	pax("GNU.sparse.size", "5000", "GNU.sparse.map", "0,2,4998,2", "GNU.sparse.name", "zero-one", NULL);
	file("GNUSparseFile.1/x", "abcd");
	pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "one-zero", "GNU.sparse.realsize", "5000", NULL);
	header('0', "GNUSparseFile.1/y", "", 0644, 516);
	content("2\n0\n2\n4998\n2\n", 13);
	content("abcd", 4);
	check(unpack(&as_tree) == 0);
	for (int i = 0; i < 3; i++) {
		const char *name = (const char *[]){ "root/zero-zero", "root/zero-one", "root/one-zero" }[i];

		memset(bytes, 1, sizeof(bytes));
		fd = open(at(name), O_RDONLY | O_CLOEXEC);
		check(fd >= 0 && read(fd, bytes, sizeof(bytes)) == 5000);
		close(fd);
		check(!memcmp(bytes, "ab\0", 3) && !memcmp(bytes + 4996, "\0\0cd", 4));
	}

	begin("sparse maps that lie are errors");
	static const char *const maps[] = {
		"0,2,1,2", "0,2,4999,2", "0,4,9223372036854775807,0", "0,2,4998,9223372036854775807", "0,1", "0,5", "0", "a,b", "0,2,4998,2,",
		"4998,2,0,2",
	};
	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++) {
		pax("GNU.sparse.size", "5000", "GNU.sparse.map", maps[i], NULL);
		file("x", "abcd");
		check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	}
	static const char *const lines[] = { "9999999\n", "2\n0\n2\n", "x\n", "\n", "99999999999999999999999\n", "1\n0\n" };
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "5000", NULL);
		header('0', "y", "", 0644, 512);
		content(lines[i], strlen(lines[i]));
		check(unpack(&as_tree) < 0 && last.error == EBADMSG);
	}
}

static void kinds_and_attributes(void)
{
	char value[64];
	/* struct vfs_cap_data: version 2, effective, CAP_NET_RAW */
	static const char capability[20] = "\1\0\0\2\0\x20\0\0";

	begin("devices, fifos, modes, owners, times and xattrs");
	node('3', "null", 1, 3);
	node('4', "loop", 7, 0);
	header('6', "fifo", "", 0640, 0);
	char text[200];
	int length = snprintf(text, sizeof(text), "56 SCHILY.xattr.security.capability=");
	memcpy(text + length, capability, 20);
	length += 20;
	text[length++] = '\n';
	memcpy(text, length == 57 ? "57" : "??", 2);
	pax_raw('x', text, (size_t)length);
	header('0', "ping", "", 0755, 0);
	pax("uid", "1234", "gid", "2000000", "mtime", "1600000000.123456789", NULL);
	header('0', "su", "", 04755, 2);
	content("su", 2);
	pax("mtime", "-1.5", NULL);
	header('5', "old", "", 01777, 0);
	file("old/x", "x");
	pax("uid", "7", NULL);
	symlink_entry("link", "su");
	check(unpack(&as_tree) == 0);
	struct stat st = status("root/null");
	check(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) && (st.st_mode & 0777) == 0666);
	check(S_ISBLK(status("root/loop").st_mode) && S_ISFIFO(status("root/fifo").st_mode));
	st = status("root/su");
	check((st.st_mode & 07777) == 04755 && st.st_uid == 1234 && st.st_gid == 2000000);
	check(st.st_mtim.tv_sec == 1600000000 && st.st_mtim.tv_nsec == 123456789);
	st = status("root/old");
	check((st.st_mode & 07777) == 01777 && st.st_mtim.tv_sec == -2 && st.st_mtim.tv_nsec == 500000000);
	check(status("root/link").st_uid == 7);
	check(lgetxattr(at("root/ping"), "security.capability", value, sizeof(value)) == 20);

	begin("without keep_ids everything is the caller's");
	struct tar_options own = { 0 };
	pax("uid", "1234", NULL);
	file("x", "x");
	check(unpack(&own) == 0 && status("root/x").st_uid == geteuid());

	begin("entries replace what is of another kind; directories keep theirs");
	file("f/x", "x");
	file("f", "now a file");
	file("g", "g");
	dir("g");
	file("g/x", "x");
	header('5', "g", "", 0700, 0);
	symlink_entry("h", "g");
	node('3', "h", 1, 3);
	file("h", "h");
	check(unpack(&as_tree) == 0);
	check(has_text("root/f", "now a file") && has_text("root/g/x", "x") && has_text("root/h", "h"));
	check((status("root/g").st_mode & 07777) == 0700);
	struct tar_options careful = as_tree;
	careful.keep_kind = true;
	file("g", "no");
	check(unpack(&careful) < 0 && last.error == EISDIR && is_directory("root/g"));
	dir("f");
	check(unpack(&careful) < 0 && last.error == ENOTDIR && has_text("root/f", "now a file"));

	begin("below a base, links are the root's and dots stop at the base");
	mkdir(at("root/base"), 0755);
	symlink_entry("link", "/elsewhere");
	file("link/x", "x");
	file("../../top", "top");
	raw(NULL, 1024);
	check(unpack_raw("/base", &as_tree) == 0);
	check(has_text("root/elsewhere/x", "x") && has_text("root/base/top", "top"));
	raw(NULL, 1024);
	check(unpack_raw("missing", &as_tree) < 0 && last.error == ENOENT);
	symlink(at("outside"), at("root/escape"));
	file("x", "x");
	raw(NULL, 1024);
	check(unpack_raw("escape", &as_tree) < 0 && last.error == ENOENT);
	check_canary(__LINE__);
}

/* --- what resolve.h says --- */

static void resolving(void)
{
	int fd;

	begin("resolve_make makes what is missing and refuses what escapes");
	fd = resolve_make(root_fd, "/a/b/c", true, 0700, &last, "mount-target");
	check(fd >= 0 && is_directory("root/a/b/c") && (status("root/a/b/c").st_mode & 0777) == 0700 &&
		(status("root/a").st_mode & 0777) == 0755);
	close(fd);
	fd = resolve_make(root_fd, "etc/hosts", false, 0644, &last, "mount-target");
	check(fd >= 0 && S_ISREG(status("root/etc/hosts").st_mode));
	close(fd);
	fd = resolve_make(root_fd, "etc/../etc/hosts", false, 0644, &last, "mount-target");
	check(fd >= 0);
	close(fd);
	fd = resolve_make(root_fd, "/", true, 0755, &last, "mount-target");
	check(fd >= 0);
	close(fd);
	symlink("/a", at("root/inside"));
	fd = resolve_make(root_fd, "inside/b/new/file", false, 0600, &last, "mount-target");
	check(fd >= 0 && exists("root/a/b/new/file"));
	close(fd);
	symlink("../../../../..", at("root/a/climb"));
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "a/climb/outside/x", true, 0755, &last, "mount-target") < 0 && last.error == EXDEV);
	check(!strcmp(last.step, "mount-target") && strstr(last.message, "/a/climb") && !strcmp(last.subject, "a/climb/outside/x"));
	symlink(at("outside"), at("root/dangling"));
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "dangling/x", true, 0755, &last, "mount-target") < 0 && last.error == EXDEV);
	check(strstr(last.message, "/dangling") != NULL);
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "dangling", false, 0755, &last, "mount-target") < 0 && last.error == EXDEV);
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "a/../../x", true, 0755, &last, "mount-target") < 0 && last.error == EXDEV);
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "etc/hosts", true, 0755, &last, "mount-target") < 0 && last.error == ENOTDIR);
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "a/b", false, 0755, &last, "mount-target") < 0 && last.error == EISDIR);
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "etc/hosts/x", false, 0755, &last, "mount-target") < 0 && last.error == ENOTDIR);
	symlink("round", at("root/round"));
	last = (struct fault){ 0 };
	check(resolve_make(root_fd, "round", true, 0755, &last, "mount-target") < 0 && last.error == ELOOP);
	check_canary(__LINE__);

	begin("resolve_workdir refuses what is no place to work in");
	mkdir(at("root/w"), 0755);
	put_text("root/f", "");
	symlink("w", at("root/good"));
	symlink("../..", at("root/w/up"));
	fd = resolve_workdir(root_fd, "/good", &last, "workdir");
	check(fd >= 0);
	close(fd);
	static const struct { const char *path; int error; } bad[] = {
		{ "/none", ENOENT }, { "/f", ENOTDIR }, { "/w/up", EXDEV }, { "..", EXDEV },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		last = (struct fault){ 0 };
		check(resolve_workdir(root_fd, bad[i].path, &last, "workdir") < 0 && last.error == bad[i].error);
	}
	int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	last = (struct fault){ 0 };
	check(resolve_workdir(slash, "/proc/self/fd/0/..", &last, "workdir") < 0 && last.error == ELOOP);
	last = (struct fault){ 0 };
	check(resolve_in_root(slash, "/proc/self/cwd", O_PATH, &last, "workdir") < 0 && last.error == ELOOP);
	close(slash);
}

/* --- trees --- */

static void removing(void)
{
	begin("tree_empty takes away trees of any depth, in steps");
	int fd = dup(root_fd);

	for (int i = 0; i < 3000; i++) { /* far beyond PATH_MAX and the descriptors' limit */
		mkdirat(fd, "deeper", 0755);
		int next = openat(fd, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	close(fd);
	symlink(at("outside"), at("root/link"));
	mkdir(at("root/many"), 0);
	for (int i = 0; i < 1000; i++) {
		char name[64];

		snprintf(name, sizeof(name), "root/many/%d", i);
		put_text(name, "x");
	}
	check(tree_empty(root_fd, 10) == 1);
	int calls = 0;
	while (tree_empty(root_fd, 500) == 1)
		calls++;
	check(calls >= 2 && calls < 1000);
	check(rmdir(at("root")) == 0);
	check_canary(__LINE__);
}

static bool installed(const char *program)
{
	if (run("command -v %s >/dev/null 2>&1", program) == 0)
		return true;
	printf("skipped: the round trip with %s, which is not installed\n", program);
	return false;
}

/* All there is to see of a tree, one line a name. */
static void listing(const char *tree, const char *to)
{
	check(run("cd %s && { find . ! -type d -printf '%%p %%y %%m %%U:%%G %%T@ %%s %%l %%n\\n'; find . -type d -printf "
		"'%%p %%y %%m %%U:%%G %%T@\\n'; find . -type f -exec sha256sum {} +; } | sort > %s", at(tree), at(to)) == 0);
}

static void pack_to(const char *path, const char *to)
{
	int fd = open(at(to), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	last = (struct fault){ 0 };
	check(pack_fd(fd, path) == 0);
	close(fd);
}

static void unpack_from(const char *from, const char *base)
{
	int fd = open(at(from), O_RDONLY | O_CLOEXEC);

	last = (struct fault){ 0 };
	if (!check(tar_unpack(fd, root_fd, base, &as_tree, &result, &last) == 0))
		printf("  %s: %s: %s\n", last.subject, strerror(last.error), last.message);
	close(fd);
}

/* Compares the two listings. rough: without the times, where a format or a program does not keep them exactly. */
static bool same_listing(bool rough)
{
	const char *pattern = rough ? "s/ -?[0-9]+\\.[0-9]{10}//" : "";

	return run("cd %s && sed -E '%s' expected > left; sed -E '%s' found > right; diff left right > differences", world,
		pattern, pattern) == 0;
}

static void round_trips(void)
{
	static const struct { const char *name, *pack, *unpack; } others[] = {
		{ "tar", "tar --posix --xattrs --xattrs-include='*' -S -C %s -cf %s t", "tar --xattrs --xattrs-include='*' -C %s -xpf %s" },
		{ "tar", "tar --format=gnu -S -C %s -cf %s t", NULL },
		{ "tar", "tar --format=posix --sparse-version=0.0 -S -C %s -cf %s t", NULL },
		{ "tar", "tar --format=posix --sparse-version=0.1 -S -C %s -cf %s t", NULL },
		{ "bsdtar", "bsdtar --format pax -C %s -cf %s t", "bsdtar -C %s -xpf %s" },
		{ "python3", "cd %s && python3 -c 'import tarfile,sys; "
			"t=tarfile.open(sys.argv[1],\"w\",format=tarfile.PAX_FORMAT); t.add(\"t\")' %s",
			"cd %s && python3 -c 'import tarfile,sys; tarfile.open(sys.argv[1]).extractall()' %s" },
	};

	begin("round trips");
	check(run("mkdir -p %s/t/deep && cd %s/t && mkdir -p empty 'with space' && echo hello > file && "
		"ln file hard && ln -s file soft && mkfifo pipe && head -c 300000 /dev/urandom > big && "
		"truncate -s 3M sparse && printf end >> sparse && : > nothing && "
		"n=$(printf '%%0200d' 0) && mkdir -p $n/$n && echo deep > $n/$n/$n && ln -s $n/$n/$n longlink && ln $n/$n/$n $n/hard && "
		"chown 1234:5678 file && chown 3000000:3000000 big && chmod 4711 big && chmod 1777 empty && echo u > $(printf '\\303\\251') && "
		"touch -d '2001-02-03 04:05:06.123456789' file && touch -d '1999-01-01' empty", at("root"), at("root")) == 0);
	mknod(at("root/t/null"), S_IFCHR | 0666, makedev(1, 3));
	check(lsetxattr(at("root/t/file"), "user.mark", "v\0w", 3, 0) == 0);
	listing("root/t", "expected");

	pack_to("/t", "ours.tar");
	pack_to("t/", "again.tar");
	check(run("cmp -s %s %s", at("ours.tar"), at("again.tar")) == 0);
	mkdir(at("root/copy"), 0755);
	unpack_from("ours.tar", "/copy");
	listing("root/copy/t", "found");
	check(run("diff %s %s", at("expected"), at("found")) == 0);
	char value[8];
	check(lgetxattr(at("root/copy/t/file"), "user.mark", value, 8) == 3 && !memcmp(value, "v\0w", 3));

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		char command[1024];

		if (!installed(others[i].name))
			continue;
		remove_tree(at("root/copy"));
		mkdir(at("root/copy"), 0755);
		snprintf(command, sizeof(command), others[i].pack, at("root"), at("theirs.tar"));
		check(run("%s", command) == 0);
		unpack_from("theirs.tar", "copy");
		listing("root/copy/t", "found");
		/* GNU's own format and Python's links have less precise times. */
		bool same = same_listing(strstr(others[i].pack, "gnu") || strstr(others[i].pack, "python"));
		if (!check(same))
			run("echo '%s'; head -5 %s", others[i].pack, at("differences"));
		if (!others[i].unpack)
			continue;
		remove_tree(at("root/copy"));
		mkdir(at("root/copy"), 0755);
		snprintf(command, sizeof(command), others[i].unpack, at("root/copy"), at("ours.tar"));
		check(run("%s", command) == 0);
		listing("root/copy/t", "found");
		same = same_listing(true);
		if (!check(same))
			run("echo '%s'; head -5 %s", others[i].unpack, at("differences"));
	}

	begin("a packed archive is rooted as docker cp's");
	mkdir(at("root/etc"), 0755);
	put_text("root/etc/passwd", "p");
	symlink("etc", at("root/link"));
	static const struct { const char *path, *names; } named[] = {
		{ "/etc", "etc/ etc/passwd" }, { "etc/passwd", "passwd" }, { "/etc/.", "./ ./passwd" }, { "link", "link" },
		{ "link/", "link/ link/passwd" }, { "link/passwd", "passwd" }, { "/", "./ ./etc/ ./etc/passwd ./link" },
	};
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
		pack_to(named[i].path, "ours.tar");
		if (!check(run("test \"$(echo $(tar -tf %s))\" = '%s'", at("ours.tar"), named[i].names) == 0))
			printf("  %s\n", named[i].path);
	}
	static const struct { const char *path; int error; } bad[] = {
		{ "none", ENOENT }, { "etc/none", ENOENT }, { "etc/passwd/x", ENOTDIR }, { "etc/passwd/", ENOTDIR }, { "etc/..", EINVAL },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		int fd = open(at("ours.tar"), O_WRONLY | O_TRUNC | O_CLOEXEC);

		last = (struct fault){ 0 };
		check(pack_fd(fd, bad[i].path) < 0 && last.error == bad[i].error && status("ours.tar").st_size == 0);
		close(fd);
	}
	symlink(at("outside"), at("root/escape"));
	int fd = open(at("ours.tar"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	last = (struct fault){ 0 };
	check(pack_fd(fd, "escape/passwd") < 0 && last.error == ENOENT);
	close(fd);

	begin("a tree 300 deep goes round");
	int deep = dup(root_fd);
	for (int i = 0; i < 300; i++) {
		mkdirat(deep, "d", 0755);
		int next = openat(deep, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int leaf = openat(deep, "e", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		close(leaf);
		close(deep);
		deep = next;
	}
	close(deep);
	pack_to("d", "ours.tar");
	check(run("test $(tar -tf %s | wc -l) = 599", at("ours.tar")) == 0);
}

static uint64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

/* Exchanges root/d, a directory, and root/l, a link to the outside; and root/file with root/link, likewise. Unpacking takes
 * links away, so a new one comes each time. */
static void swap_for_a_while(void)
{
	for (int i = 0; i < 200; i++)
		if (syscall(SYS_renameat2, root_fd, "d", root_fd, "l", 2 /* RENAME_EXCHANGE */) < 0 || i % 2)
			syscall(SYS_renameat2, root_fd, "file", root_fd, "link", 2);
	if (symlinkat(at("outside"), root_fd, "n") == 0)
		syscall(SYS_renameat2, root_fd, "n", root_fd, "l", 2);
	int old = openat(root_fd, "n", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (old < 0) {
		unlinkat(root_fd, "n", 0);
		return;
	}
	tree_empty(old, 0);
	close(old);
	unlinkat(root_fd, "n", AT_REMOVEDIR);
}

static void races(void)
{
	int bytes_read_outside = 0, unpacked = 0, packed = 0;

	begin("files that change while they are packed keep the archive whole");
	put_text("root/log", "");
	check(truncate(at("root/log"), 1 << 20) == 0);
	pid_t other = fork();
	if (other == 0) {
		int fd = open(at("root/log"), O_WRONLY | O_CLOEXEC);

		for (;;)
			if (ftruncate(fd, 10) < 0 || ftruncate(fd, 3 << 20) < 0)
				_exit(1);
	}
	for (int i = 0; i < 50; i++) {
		pack_to("log", "ours.tar");
		struct stat st = status("ours.tar");

		check(st.st_size % 512 == 0);
		check(run("tar -tf %s >/dev/null", at("ours.tar")) == 0);
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);

	begin("a directory that turns into a link to the outside and back");
	put_text("outside/secret", "classified");
	mkdir(at("root/d"), 0755);
	mkdir(at("root/d/e"), 0755);
	symlink(at("outside"), at("root/l"));
	put_text("root/file", "x");
	symlink(at("outside/secret"), at("root/link"));
	other = fork();
	if (other == 0)
		for (;;)
			swap_for_a_while();
	uint64_t until = seconds() + 3;
	while (seconds() < until) {
		for (int i = 0; i < 50; i++)
			header('5', "d", "", 0711, 0);
		file("d/passwd", "evil");
		file("d/e/passwd", "evil");
		symlink_entry("d/link", "x");
		hard_link("d/hard", "d/passwd");
		header('6', "d/fifo", "", 0777, 0);
		header('5', "d/e", "", 0711, 0);
		file("d/.wh.secret", "");
		unpacked += unpack(unpacked & 1 ? &as_layer : &as_tree) == 0;

		int fd = memfd_create("archive", MFD_CLOEXEC);
		packed += pack_fd(fd, packed & 1 ? "/" : "d/") == 0;
		for (int i = 0; i < 50; i++)
			check(pack_fd(fd, "file") == 0 || last.error);
		size_t length = (size_t)lseek(fd, 0, SEEK_END);
		char *map = length ? mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
		if (map != MAP_FAILED) {
			bytes_read_outside += memmem(map, length, "classified", 10) != NULL;
			munmap(map, length);
		}
		close(fd);
		fd = resolve_make(root_fd, "d/e/target", true, 0755, NULL, "mount-target");
		if (fd >= 0)
			close(fd);
		mkdir(at("root/d/e"), 0755); /* in whichever it is: outside/e is swept next */
		rmdir(at("outside/e"));
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	check(has_text("outside/secret", "classified") && unlink(at("outside/secret")) == 0);
	check(bytes_read_outside == 0);
	check(unpacked > 0 && packed > 0);
	check_canary(__LINE__);
}

static void speed(void)
{
	/* Not a check: a line for whoever compares (CONTRIBUTING.md). MAYFLY_TAR_BENCH names an archive. */
	const char *big = getenv("MAYFLY_TAR_BENCH");
	struct timespec a, b;

	if (!big)
		return;
	begin("speed");
	int fd = open(big, O_RDONLY | O_CLOEXEC);
	clock_gettime(CLOCK_MONOTONIC, &a);
	check(fd >= 0 && tar_unpack(fd, root_fd, "", &as_tree, &result, &last) == 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("unpacked %llu entries, %llu bytes in %.0f ms\n", (unsigned long long)result.entries, (unsigned long long)result.bytes,
		1e3 * (double)(b.tv_sec - a.tv_sec) + 1e-6 * (double)(b.tv_nsec - a.tv_nsec));
	close(fd);
}

int main(void)
{
	if (geteuid() != 0) {
		printf("skipped: tar_test needs root, for owners, devices and overlay marks\n");
		return 0;
	}
	umask(022);
	if (!mkdtemp(world))
		return 2;
	symbolic_links();
	hard_links();
	whiteouts();
	overlays();
	malformed();
	a_million_entries();
	sparse_files();
	kinds_and_attributes();
	resolving();
	removing();
	round_trips();
	races();
	speed();
	test_name = "end";
	close(root_fd);
	remove_tree(world);
	free(archive);
	printf("%d checks, %d failed\n", checks, failures);
	return failures != 0;
}
