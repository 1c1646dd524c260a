#define _GNU_SOURCE
/* Layers: containerd's breakout cases by their names (pkg/archive, TestBreakouts), limits and digests, directories that an archive
 * does not mention, and packing. Run as root; prints each failed check and ends with 1 if there was one. */
#include "tar_world.h"

#include <linux/capability.h>
#include "adopt.h"
#include "sha256.h"

enum expected { FINE, FAILS };

static void end_case(int line, enum expected expected, int error)
{
	int done = unpack(&as_layer);

	check_at(line, expected == FINE ? done == 0 : done < 0 && last.error == error, expected == FINE ? "is unpacked" : "is refused as expected");
	if (expected == FAILS)
		check_at(line, *last.message || *last.subject, "says why");
	check_canary(line);
}
#define fine() end_case(__LINE__, FINE, 0)
#define refused(error) end_case(__LINE__, FAILS, error)

static const char *outside(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/outside%s%s", world, *name ? "/" : "", name);
	return path;
}

static bool same_inode(const char *a, const char *b)
{
	return exists(a) && status(a).st_ino == status(b).st_ino;
}

static void symlink_breakouts(void)
{
	begin("SymlinkAbsolute");
	symlink_entry("localetc", "/etc");
	file("localetc/unbroken", "x");
	fine();
	check(has_text("root/etc/unbroken", "x"));

	begin("SymlinkUpAndOut");
	symlink_entry("localetc", "../../../../../../etc");
	file("localetc/unbroken", "x");
	fine();
	check(has_text("root/etc/unbroken", "x"));

	begin("SymlinkMultipleAbsolute");
	dir("etc");
	symlink_entry("etc/passwd", "/unbroken");
	symlink_entry("localetc", "/etc");
	file("localetc/emptied", "");
	file("etc/passwd", "new");
	fine();
	check(has_text("root/etc/passwd", "new") && exists("root/etc/emptied") && !exists("root/unbroken"));

	begin("SymlinkMultipleRelative");
	symlink_entry("one", "..");
	symlink_entry("two", "one/../one/..");
	symlink_entry("three", "two/../../outside");
	file("three/passwd", "x");
	fine();
	check(has_text("root/outside/passwd", "x"));

	begin("SymlinkEmptyFile");
	symlink_entry("etc", outside(""));
	file("etc/emptied", "notempty");
	header('0', "etc/emptied", "", 0644, 0);
	fine();

	begin("a link at the end of a name is replaced, never written through");
	symlink_entry("passwd", outside("passwd"));
	file("passwd", "x");
	symlink_entry("d", outside(""));
	dir("d/");
	header('5', "d", "", 0700, 0);
	fine();
	check(has_text("root/passwd", "x") && is_directory("root/d"));

	begin("the entry for the top cannot be a link: /.");
	symlink_entry("/.", outside(""));
	file("passwd", "evil");
	refused(EINVAL);

	begin("the entry for the top cannot be a link: .");
	symlink_entry(".", outside(""));
	refused(EINVAL);

	begin("the entry for the top cannot be a link: ./.");
	symlink_entry("./.", outside(""));
	refused(EINVAL);

	begin("/var/run -> /run works");
	dir("var");
	symlink_entry("var/run", "/run");
	file("var/run/lock/x", "x");
	dir("run");
	fine();
	check(has_text("root/run/lock/x", "x") && S_ISLNK(status("root/var/run").st_mode));

	begin("a magic link in a layer is a link to nowhere");
	symlink_entry("self", "/proc/self/root");
	file("self/passwd", "evil");
	fine();
	check(has_text("root/proc/self/root/passwd", "evil"));
}

static void hard_link_breakouts(void)
{
	begin("HardlinkRelative");
	dir("etc");
	file("etc/passwd", "x");
	hard_link("unbroken", "./etc/passwd");
	fine();
	check(same_inode("root/unbroken", "root/etc/passwd"));

	begin("HardlinkDownAndOut");
	dir("etc");
	file("etc/passwd", "x");
	dir("down");
	hard_link("down/unbroken", "./down/../../../../../../etc/passwd");
	fine();
	check(same_inode("root/down/unbroken", "root/etc/passwd"));

	begin("HardlinkAbsolute");
	dir("etc");
	file("etc/passwd", "x");
	hard_link("localpasswd", "/etc/passwd");
	fine();
	check(same_inode("root/localpasswd", "root/etc/passwd"));

	begin("HardlinkRelativeLong");
	file("passwd", "x");
	hard_link("localpasswd", "../../../../../../passwd");
	fine();
	check(same_inode("root/localpasswd", "root/passwd"));

	begin("HardlinkRelativeUpAndOut");
	symlink_entry("up", "../../..");
	file("outside", "x");
	hard_link("localpasswd", "up/outside");
	fine();
	check(same_inode("root/localpasswd", "root/outside"));

	begin("HardlinkRelativeUpAndOut: what only the outside has");
	symlink_entry("up", "../../..");
	hard_link("stolen", "up/canary");
	refused(ENOENT);

	begin("HardlinkDirectlyRelative");
	hard_link("stolen", "../outside/passwd");
	refused(ENOENT);

	begin("HardlinkDirectlyAbsolute");
	hard_link("stolen", outside("passwd"));
	refused(ENOENT);

	begin("HardlinkSymlinkBeforeCreateTarget");
	symlink_entry("localpasswd", outside("passwd"));
	hard_link("localpasswd-dup", "localpasswd");
	file("localpasswd-dup", "x");
	fine();
	check(has_text("root/localpasswd-dup", "x") && S_ISLNK(status("root/localpasswd").st_mode));

	begin("HardlinkSymlinkRelative");
	dir("etc");
	file("etc/passwd", "x");
	symlink_entry("passwdlink", "etc/passwd");
	hard_link("localpasswd", "passwdlink");
	fine();
	check(S_ISLNK(status("root/localpasswd").st_mode));

	begin("HardlinkSymlinkAbsolute");
	symlink_entry("passwdlink", outside("passwd"));
	hard_link("localpasswd", "passwdlink");
	fine();
	check(S_ISLNK(status("root/localpasswd").st_mode));

	begin("HardlinkSymlinkAbsoluteRelative");
	symlink_entry("outside", outside(""));
	hard_link("localpasswd", "./outside/../outside/passwd");
	refused(ENOENT);

	begin("HardlinkSymlinkAbsoluteMixed");
	symlink_entry("outside", "/../../outside");
	hard_link("localpasswd", "/outside/passwd");
	refused(ELOOP);

	begin("HardlinkSymlinkChmod");
	symlink_entry("passwd", outside("passwd"));
	hard_link("localpasswd", "passwd");
	header('0', "localpasswd", "", 0777, 0);
	fine();

	begin("HardlinkSymlinkChmod2: a link's mode goes nowhere");
	symlink_entry("passwd", outside("passwd"));
	header('1', "localpasswd", "passwd", 0777, 0);
	fine();
	check(S_ISLNK(status("root/localpasswd").st_mode));
}

static void whiteout_breakouts(void)
{
	static const char *const nameless[] = { ".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh...", "d/.wh./x" };

	for (size_t i = 0; i < sizeof(nameless) / sizeof(*nameless); i++) {
		begin(nameless[i]);
		dir("d");
		file(nameless[i], "");
		refused(EINVAL);
		check(is_directory("root/d"));
	}

	begin("WhiteoutRootParent");
	file(".wh...", "");
	refused(EINVAL);

	begin("WhiteoutParentDirectory");
	dir("etc");
	file("etc/passwd", "x");
	file("etc/.wh...", "");
	refused(EINVAL);
	check(has_text("root/etc/passwd", "x"));

	begin("WhiteoutSymlinkPath");
	symlink_entry("localetc", outside(""));
	file("localetc/.wh.passwd", "");
	refused(ELOOP);

	begin("WhiteoutRelativeSymlinkPath");
	symlink_entry("dir", "../outside");
	file("dir/.wh.passwd", "");
	refused(ELOOP);

	begin("WhiteoutDeadSymlinkParent");
	symlink_entry("passwd", "no/such/directory");
	file("passwd/.wh.x", "");
	refused(ELOOP);

	begin("a whiteout of an ancestor that is a link hides that name only");
	symlink_entry("a", outside(""));
	file(".wh.a", "");
	fine();

	begin(".wh..wh..opq on a linked directory");
	symlink_entry("d", outside(""));
	file("d/.wh..wh..opq", "");
	refused(ELOOP);

	begin(".wh..wh..opq on a directory linked inside");
	dir("real");
	symlink_entry("d", "real");
	file("d/.wh..wh..opq", "");
	refused(ELOOP);
	check(!is_opaque("root/real"));

	begin("a device 0:0 is no whiteout");
	node('3', "passwd", 0, 0);
	refused(EINVAL);

	begin("overlay's attributes are not taken from a layer, of whichever kind of entry");
	for (int i = 0; i < 4; i++) {
		pax("SCHILY.xattr.trusted.overlay.opaque", "y", "SCHILY.xattr.trusted.overlay.redirect", "/etc", "SCHILY.xattr.trusted.overlay.metacopy",
			"", "SCHILY.xattr.user.overlay.opaque", "y", "SCHILY.xattr.user.overlay.whiteout", "", "SCHILY.xattr.user.fine", "1", NULL);
		if (i == 0)
			dir("d");
		else if (i == 1)
			file("f", "x");
		else if (i == 2)
			symlink_entry("l", "x");
		else
			dir("./");
	}
	check(unpack(&as_layer) == 0);
	static const char *const names[] = { "root/d", "root/f", "root/l", "root" };
	for (size_t i = 0; i < 4; i++) {
		char list[512] = "";
		ssize_t length = llistxattr(at(names[i]), list, sizeof(list));

		check(!memmem(list, length > 0 ? (size_t)length : 0, "overlay", 7));
	}
	check(getxattr(at("root/d"), "user.fine", NULL, 0) == 1);
}

static void limits(void)
{
	struct tar_options few = as_layer;

	begin("an archive longer than allowed is refused, whatever makes it long");
	few.max_bytes = 1 << 20;
	header('0', "zeros", "", 0644, 10ull << 30);
	raw(NULL, 4096);
	check(unpack(&few) < 0 && last.error == EFBIG && strstr(last.message, "1048576") && !exists("root/zeros"));
	check_canary(__LINE__);
	for (int i = 0; i < 1100; i++)
		file("x", "1");
	check(unpack(&few) < 0 && last.error == EFBIG);
	file("x", "trailing zeros count too");
	raw(NULL, 2 << 20);
	check(unpack(&few) < 0 && last.error == EFBIG);
	static char long_value[200000];
	memset(long_value, 'v', sizeof(long_value) - 1);
	for (int i = 0; i < 8; i++) {
		pax("comment", long_value, NULL);
		file("x", "");
	}
	check(unpack(&few) < 0 && last.error == EFBIG);
	file("x", "fits");
	check(unpack(&few) == 0);

	begin("more entries than allowed are refused");
	few = as_layer;
	few.max_entries = 1000;
	for (int i = 0; i < 1001; i++)
		header('0', "same", "", 0644, 0);
	check(unpack(&few) < 0 && last.error == E2BIG && strstr(last.message, "1000"));

	begin("a sparse file that claims terabytes takes none");
	pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "big", "GNU.sparse.realsize", "1000000000000", NULL);
	header('0', "GNUSparseFile.0/big", "", 0644, 512);
	content("1\n0\n0\n", 6);
	fine();
	check(status("root/big").st_size == 1000000000000 && status("root/big").st_blocks < 64);
}

static void digests(void)
{
	struct tar_options options = as_layer;
	struct sha256 hash;
	char expected[SHA256_HEX];

	options.digest = true;
	for (int trailing = 0; trailing < 3; trailing++) {
		begin("the digest is of all that was sent");
		file("a/b", "content");
		raw(NULL, 1024);
		raw(NULL, (size_t)trailing * 5000);
		if (trailing == 2)
			raw("garbage", 7);
		sha256_init(&hash);
		sha256_update(&hash, archive, archive_length);
		sha256_hex(&hash, expected);
		check(unpack_raw("", &options) == 0 && !strcmp(result.digest, expected));
	}
}

/* Unpacks into root/<name> and returns the implied paths, '\n' after each. */
static char *unpack_implied(const char *name)
{
	static char text[4096];
	struct tar_options options = as_layer;
	int before = root_fd;

	options.list_implied = true;
	mkdir(at(name), 0755);
	root_fd = open(at(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(unpack(&options) == 0);
	close(root_fd);
	root_fd = before;
	if (result.implied_length && result.implied_length < sizeof(text))
		memcpy(text, result.implied_paths, result.implied_length);
	for (size_t i = 0; i < result.implied_length; i++)
		if (!text[i])
			text[i] = '\n';
	text[result.implied_length] = '\0';
	check((result.implied == 0) == (result.implied_length == 0));
	if (result.implied)
		check(adopt_remember(at(name), result.implied_paths, result.implied_length, &last) == 0);
	free(result.implied_paths);
	return text;
}

static void implied_parents(void)
{
	begin("parents without an entry are listed");
	file("a/b/c/file", "x");
	dir("named/");
	file("named/deep/file", "x");
	check(!strcmp(unpack_implied("root/tree"), "a\na/b\na/b/c\nnamed/deep\n"));

	begin("those whose entry comes later are not");
	file("a/b/file", "x");
	header('5', "a/", "", 0700, 0);
	check(!strcmp(unpack_implied("root/tree"), "a/b\n"));
	check((status("root/tree/a").st_mode & 07777) == 0700);

	begin("an entry may call them by another path");
	dir("run");
	symlink_entry("var", "run");
	file("var/x/file", "x");
	file("run/y/file", "x");
	header('5', "var/y", "", 0711, 0);
	check(!strcmp(unpack_implied("root/tree"), "run/x\n"));

	begin("those that were replaced are not");
	file("a/b/file", "x");
	file("c/file", "x");
	file("a", "now a file");
	file("c/file2", "x");
	symlink_entry("c", "elsewhere");
	dir("c");
	file("d/e/file", "x");
	file("d/e", "");
	check(!strcmp(unpack_implied("root/tree"), "d\n"));

	begin("what hides a lower directory does not get its mode");
	file(".wh.a", "");
	file("a/new", "x");
	check(!strcmp(unpack_implied("root/tree"), "") && is_opaque("root/tree/a"));
}

static void adopting(void)
{
	char layers[2][PATH_MAX];
	const char *lowers[2] = { layers[0], layers[1] };

	begin("implied directories get what the uppermost layer below says");
	check(run("cd %s && mkdir -p low/tmp low/home/me low/srv/x low/opq/in up/home up/srv up/opq top && chmod 1777 low/tmp && chown 7:8 low/home && "
		"chmod 0700 up/home && chown 9:10 up/home && chmod 0750 low/home/me && touch -d @1000000000.5 low/tmp && chmod 0711 low/opq/in", at("root")) == 0);
	check(setxattr(at("root/low/tmp"), "user.mark", "m", 1, 0) == 0);
	check(setxattr(at("root/low/tmp"), "trusted.overlay.origin", "o", 1, 0) == 0);
	check(setxattr(at("root/up/opq"), "trusted.overlay.opaque", "y", 1, 0) == 0);
	check(rmdir(at("root/up/srv")) == 0 && mknod(at("root/up/srv"), S_IFCHR, 0) == 0);
	file("tmp/f", "x");
	file("home/me/f", "x");
	file("srv/x/f", "x");
	file("opq/in/f", "x");
	file("none/f", "x");
	unpack_implied("root/top/tree");
	check(exists("root/top/implied"));
	snprintf(layers[0], PATH_MAX, "%s/root/up", world);
	snprintf(layers[1], PATH_MAX, "%s/root/low", world);
	last = (struct fault){ 0 };
	check(adopt_parents(at("root/top/tree"), lowers, 2, false, true, &last) == 0);
	struct stat tmp = status("root/top/tree/tmp"), home = status("root/top/tree/home"), me = status("root/top/tree/home/me");
	char value[4];
	check((tmp.st_mode & 07777) == 01777 && tmp.st_mtim.tv_sec == 1000000000 && tmp.st_mtim.tv_nsec == 500000000);
	check(lgetxattr(at("root/top/tree/tmp"), "user.mark", value, 4) == 1);
	check(lgetxattr(at("root/top/tree/tmp"), "trusted.overlay.origin", value, 4) < 0);
	check((home.st_mode & 07777) == 0700 && home.st_uid == 9 && home.st_gid == 10);
	check((me.st_mode & 07777) == 0750 && me.st_uid == 0);
	check((status("root/top/tree/srv").st_mode & 07777) == 0755);            /* hidden by a whiteout */
	check((status("root/top/tree/opq/in").st_mode & 07777) == 0755);         /* hidden by an opaque directory */
	check((status("root/top/tree/none").st_mode & 07777) == 0755);
	check(!exists("root/top/implied"));
	check(adopt_parents(at("root/top/tree"), lowers, 2, false, true, &last) == 0); /* nothing left to do */

	begin("a link below does not lead the look-up astray");
	check(run("cd %s && mkdir -p low top && ln -s %s low/d && chmod 0700 %s", at("root"), outside(""), outside("")) == 0);
	file("d/f", "x");
	unpack_implied("root/top/tree");
	snprintf(layers[0], PATH_MAX, "%s/root/low", world);
	check(adopt_parents(at("root/top/tree"), lowers, 1, false, true, &last) == 0);
	check((status("root/top/tree/d").st_mode & 07777) == 0755);
	chmod(outside(""), 0755);
	check_canary(__LINE__);
}

static void pack_layer(const char *tree, const char *to, bool userxattr, int error)
{
	int from = open(at(tree), O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = open(at(to), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	last = (struct fault){ 0 };
	int done = tar_pack_layer(&(struct tar_sink){ write_all, &fd }, from, userxattr, &last);

	if (!check(error ? done < 0 && last.error == error : done == 0))
		printf("  %s: %s: %s\n", last.subject, strerror(last.error), last.message);
	close(from);
	close(fd);
}

static bool names_are(const char *tar, const char *expected)
{
	char text[4096] = "";
	char command[PATH_MAX + 64];

	snprintf(command, sizeof(command), "LC_ALL=C tar --quoting-style=escape -tf %s", at(tar));
	FILE *list = popen(command, "r");
	size_t got = list ? fread(text, 1, sizeof(text) - 1, list) : 0;

	text[got] = '\0';
	if (list)
		pclose(list);
	if (!strcmp(text, expected))
		return true;
	printf("  names are:\n%s", text);
	return false;
}

static void packing(void)
{
	begin("overlay's marks become a layer's");
	check(run("cd %s && mkdir -p t/etc t/opaque t/sub && echo x >t/etc/kept && echo y >t/opaque/new && mknod t/etc/gone c 0 0 && "
		"mknod t/z c 0 0 && python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('t/etc/sock')\"", at("root")) == 0);
	check(setxattr(at("root/t/opaque"), "trusted.overlay.opaque", "y", 1, 0) == 0);
	check(setxattr(at("root/t/sub"), "trusted.overlay.opaque", "x", 1, 0) == 0); /* not opaque */
	check(setxattr(at("root/t/sub"), "trusted.overlay.origin", "o", 1, 0) == 0);
	check(setxattr(at("root/t/etc"), "trusted.overlay.impure", "y", 1, 0) == 0);
	put_text("root/t/sub/white", "");
	check(setxattr(at("root/t/sub/white"), "trusted.overlay.whiteout", "", 0, 0) == 0);
	put_text("root/t/sub/users", "");
	check(setxattr(at("root/t/sub/users"), "user.overlay.whiteout", "", 0, 0) == 0); /* not our kind of mount's: an empty file */
	pack_layer("root/t", "one.tar", false, 0);
	check(names_are("one.tar", "etc/\netc/.wh.gone\netc/kept\nopaque/\nopaque/.wh..wh..opq\nopaque/new\nsub/\nsub/users\nsub/.wh.white\n.wh.z\n"));
	check(run("! grep -q overlay %s", at("one.tar")) == 0);

	begin("and back");
	check(run("mkdir -p %s", at("root/t")) == 0);
	int fd = open(at("one.tar"), O_RDONLY | O_CLOEXEC), tree = open(at("root/t"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(tar_unpack(fd, tree, "", &as_layer, &result, &last) == 0);
	close(fd);
	close(tree);
	check(is_whiteout("root/t/etc/gone") && is_whiteout("root/t/z") && is_whiteout("root/t/sub/white") && is_opaque("root/t/opaque"));
	check(!is_opaque("root/t/sub") && has_text("root/t/opaque/new", "y\n") && status("root/t/sub/users").st_mode);
	pack_layer("root/t", "two.tar", false, 0);
	check(run("cmp %s %s", at("one.tar"), at("two.tar")) == 0);

	begin("marks of an unprivileged overlay");
	check(run("mkdir -p %s", at("root/t/d")) == 0);
	check(setxattr(at("root/t/d"), "user.overlay.opaque", "y", 1, 0) == 0);
	put_text("root/t/d/gone", "");
	check(setxattr(at("root/t/d/gone"), "user.overlay.whiteout", "", 0, 0) == 0);
	put_text("root/t/d/full", "content");
	check(setxattr(at("root/t/d/full"), "user.overlay.whiteout", "", 0, 0) == 0);
	pack_layer("root/t", "one.tar", true, 0);
	check(names_are("one.tar", "d/\nd/.wh..wh..opq\nd/full\nd/.wh.gone\n"));

	begin("equal trees give equal bytes, in whichever order they were made");
	check(run("cd %s && mkdir -p a b/y b/x && mkdir a/x a/y && for t in a b; do echo 1 >$t/x/f; ln $t/x/f $t/y/hard; ln -s f $t/x/l; mkfifo $t/p; "
		"mknod $t/null c 1 3; touch $t/-first $t/with\\ blank $t/ä; done; find a b -exec touch -h -d @1600000000.25 {} +", at("root")) == 0);
	check(setxattr(at("root/a/x"), "user.one", "1", 1, 0) == 0 && setxattr(at("root/a/x"), "user.two", "2", 1, 0) == 0);
	check(setxattr(at("root/b/x"), "user.two", "2", 1, 0) == 0 && setxattr(at("root/b/x"), "user.one", "1", 1, 0) == 0);
	pack_layer("root/a", "one.tar", false, 0);
	pack_layer("root/b", "two.tar", false, 0);
	check(run("cmp %s %s", at("one.tar"), at("two.tar")) == 0);
	check(names_are("one.tar", "-first\nnull\np\nwith blank\nx/\nx/f\nx/l\ny/\ny/hard\n\\303\\244\n"));
	check(run("touch -d @1700000000 %s", at("root/b")) == 0); /* the top's own time does not count, as an upper's is the container's */
	pack_layer("root/b", "two.tar", false, 0);
	check(run("cmp %s %s", at("one.tar"), at("two.tar")) == 0);
	check(run("touch -d @1700000000 %s", at("root/b/x/f")) == 0);
	pack_layer("root/b", "two.tar", false, 0);
	check(run("! cmp -s %s %s", at("one.tar"), at("two.tar")) == 0);

	begin("a top that is not a plain one has an entry");
	check(run("mkdir -p %s && chmod 1777 %s", at("root/t"), at("root/t")) == 0);
	put_text("root/t/f", "x");
	pack_layer("root/t", "one.tar", false, 0);
	check(names_are("one.tar", "./\nf\n"));
	check(chmod(at("root/t"), 0755) == 0 && setxattr(at("root/t"), "trusted.overlay.opaque", "y", 1, 0) == 0);
	pack_layer("root/t", "one.tar", false, 0);
	check(names_are("one.tar", ".wh..wh..opq\nf\n"));

	begin("an empty tree is an empty archive");
	check(run("mkdir -p %s", at("root/t")) == 0);
	pack_layer("root/t", "one.tar", false, 0);
	check(status("one.tar").st_size == 1024);

	begin("what a layer cannot say is an error, not a loss");
	check(run("mkdir -p %s", at("root/t/d")) == 0);
	put_text("root/t/d/.wh.name", "");
	pack_layer("root/t", "one.tar", false, EINVAL);
	check(strstr(last.message, ".wh.") && strstr(last.subject, "d/.wh.name"));
	check(unlink(at("root/t/d/.wh.name")) == 0 && setxattr(at("root/t/d"), "trusted.overlay.redirect", "/x", 2, 0) == 0);
	pack_layer("root/t", "one.tar", false, ENOTSUP);

	begin("capabilities, owners, modes and long names survive");
	static const struct vfs_cap_data raw_cap = { .magic_etc = VFS_CAP_REVISION_2, .data = { { .permitted = 1 << CAP_NET_RAW } } };
	check(run("cd %s && mkdir t u && touch t/cap && n=$(printf 'n%%.0s' $(seq 200)) && mkdir -p t/$n/$n && echo z >t/$n/$n/$n && chmod 4755 t/$n/$n/$n && "
		"chown 3000000:4000000 t/$n", at("root")) == 0);
	check(setxattr(at("root/t/cap"), "security.capability", &raw_cap, XATTR_CAPS_SZ_2, 0) == 0);
	pack_layer("root/t", "one.tar", false, 0);
	fd = open(at("one.tar"), O_RDONLY | O_CLOEXEC);
	tree = open(at("root/u"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(tar_unpack(fd, tree, "", &as_layer, &result, &last) == 0);
	close(fd);
	close(tree);
	char value[64];
	check(getxattr(at("root/u/cap"), "security.capability", value, sizeof(value)) == XATTR_CAPS_SZ_2);
	pack_layer("root/u", "two.tar", false, 0);
	check(run("cmp %s %s", at("one.tar"), at("two.tar")) == 0);
	check_canary(__LINE__);
}

/* What a real overlay leaves in its upper directory, packed and laid over the same lower layer, is what the container saw. */
static void overlay_round_trip(void)
{
	begin("an upper, packed and unpacked, shows what the container saw");
	check(run("cd %s && mkdir -p low/del low/re/old low/keep upper work merged t view && echo 1 | tee low/gone low/del/a low/re/old/b low/keep/c >/dev/null", at("root")) == 0);
	int code = run("cd %s && unshare -m sh -ec 'mount --make-rprivate /; mount -t overlay o -o lowerdir=low,upperdir=upper,workdir=work,index=off,redirect_dir=off,metacopy=off merged; "
		"cd merged; rm gone; rm -r del; rm -r re; mkdir re; echo 2 >re/new; echo 3 >>keep/c; mv keep/c keep/d; ln -s d keep/l; cd ..; "
		"(cd merged; find . | sort; cat keep/d re/new) >seen; umount merged' 2>/dev/null", at("root"));
	if (code) {
		printf("skipped: %s: overlay cannot be mounted here\n", test_name);
		return;
	}
	pack_layer("root/upper", "one.tar", false, 0);
	check(names_are("one.tar", ".wh.del\n.wh.gone\nkeep/\nkeep/.wh.c\nkeep/d\nkeep/l\nre/\nre/.wh..wh..opq\nre/new\n"));
	int fd = open(at("one.tar"), O_RDONLY | O_CLOEXEC), tree = open(at("root/t"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(tar_unpack(fd, tree, "", &as_layer, &result, &last) == 0);
	close(fd);
	close(tree);
	check(run("cd %s && unshare -m sh -ec 'mount --make-rprivate /; mount -t overlay o -o lowerdir=t:low view; (cd view; find . | sort; cat keep/d re/new) >again' && cmp %s %s",
		at("root"), at("root/seen"), at("root/again")) == 0);
}

int main(void)
{
	if (geteuid() != 0) {
		printf("skipped: layer_test needs root, for owners, devices and overlay marks\n");
		return 0;
	}
	umask(022);
	if (!mkdtemp(world))
		return 2;
	symlink_breakouts();
	hard_link_breakouts();
	whiteout_breakouts();
	limits();
	digests();
	implied_parents();
	adopting();
	packing();
	overlay_round_trip();
	test_name = "end";
	close(root_fd);
	remove_tree(world);
	free(archive);
	printf("%d checks, %d failed\n", checks, failures);
	return failures != 0;
}
