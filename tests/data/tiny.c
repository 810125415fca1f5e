/* tiny: the program most root tests run inside a container. One static file, one verb per invocation.
 *
 * It reports what it finds in plain lines and judges nothing; the tests compare. No verb needs a file of the image
 * but /proc, and none sleeps where it can wait. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fail(const char *what) {
  dprintf(2, "%s: %s\n", what, strerrorname_np(errno));
  return 1;
}

static int write_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, data, length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    data += n;
    length -= (size_t)n;
  }
  return 0;
}

static int copy(int from, int to) {
  static char buffer[65536];
  ssize_t n;
  while ((n = read(from, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || write_all(to, buffer, (size_t)n) < 0) return -1;
  }
  return 0;
}

/* A server of SCTP on port a[0]: says hello to everyone. */
static int verb_sctp(char **a) {
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(a[0]))};
  int server = socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (server < 0 || bind(server, (struct sockaddr *)&any, sizeof any) < 0 || listen(server, 8) < 0) return fail("listen");
  dprintf(1, "listening\n");
  for (;;) {
    int client = accept(server, 0, 0);
    if (client < 0) return fail("accept");
    write_all(client, "hello", 5);
    close(client);
  }
}

/* One message to whom NOTIFY_SOCKET names (sd_notify(3)). */
static int notify(const char *message) {
  const char *path = getenv("NOTIFY_SOCKET");
  if (!path) return 0;
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  strncpy(to.sun_path, path, sizeof to.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ssize_t n = sendto(fd, message, strlen(message), 0, (struct sockaddr *)&to, sizeof to);
  close(fd);
  return n < 0 ? fail("notify") : 0;
}

static volatile sig_atomic_t reload, terminate;
static void on_service_signal(int signal) { signal == SIGHUP ? (reload = 1) : (terminate = 1); }

/* A service as systemd likes them: says that it is ready, what it is told, and, a[0] times, that it is alive; answers
 * whoever connects to the socket it was handed. */
static int verb_service(char **a) {
  int beats = a[0] ? atoi(a[0]) : 0;
  const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("LISTEN_PID");
  struct pollfd server = {.fd = pid && atoi(pid) == getpid() ? 3 : -1, .events = POLLIN};
  struct sigaction act = {.sa_handler = on_service_signal};
  sigset_t none, both;
  sigemptyset(&none);
  sigemptyset(&both);
  sigaddset(&both, SIGHUP);
  sigaddset(&both, SIGTERM);
  sigprocmask(SIG_BLOCK, &both, 0);
  sigaction(SIGHUP, &act, 0);
  sigaction(SIGTERM, &act, 0);
  if (notify("READY=1\nMAINPID=1\nSTATUS=tiny is there")) return 1;
  dprintf(1, "ready\n");
  while (!terminate) {
    long long ns = usec ? atoll(usec) * 500 : 0;
    struct timespec half = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    int n = ppoll(&server, 1, beats > 0 && ns ? &half : 0, &none);
    if (n == 0 && beats-- > 0) notify("WATCHDOG=1");
    if (n > 0) {
      int client = accept(server.fd, 0, 0);
      dprintf(client, "hello from %s\n", getenv("LISTEN_FDNAMES"));
      close(client);
    }
    if (reload) dprintf(1, "reloaded\n"), reload = 0;
  }
  notify("STOPPING=1");
  dprintf(1, "terminated\n");
  return 0;
}

static int verb_exit(char **a) { return a[0] ? atoi(a[0]) : 0; }

static int verb_print(char **a) {
  for (int i = 0; a[i]; i++) printf("%s%s", i ? " " : "", a[i]);
  puts("");
  return 0;
}

/* hex HEX...: the bytes to stdout, whatever they are; "hex2" to stderr. */
static int put_hex(int fd, char **a) {
  for (; *a; a++)
    for (char *p = *a; p[0] && p[1]; p += 2) {
      char two[3] = {p[0], p[1], 0}, byte = (char)strtol(two, 0, 16);
      if (write_all(fd, &byte, 1) < 0) return fail("write");
    }
  return 0;
}
static int verb_hex(char **a) { return put_hex(1, a); }
static int verb_hex2(char **a) { return put_hex(2, a); }

/* both OUT ERR: one line to each stream. */
static int verb_both(char **a) {
  dprintf(1, "%s\n", a[0]);
  dprintf(2, "%s\n", a[1]);
  return 0;
}

static int verb_cat(char **a) {
  int fd = a[0] ? open(a[0], O_RDONLY) : 0;
  if (fd < 0) return fail(a[0]);
  return copy(fd, 1) < 0 ? fail("copy") : 0;
}

static void show_hex(const char *p) {
  for (; *p; p++) printf("%02x", (unsigned char)*p);
  puts("");
}
static int verb_args(char **a) {
  for (; *a; a++) show_hex(*a);
  return 0;
}
static int verb_env(char **a) {
  for (char **e = environ; *e; e++) a[0] ? show_hex(*e) : (void)puts(*e);
  return 0;
}

static int verb_cwd(char **a) {
  (void)a;
  char path[4096];
  return getcwd(path, sizeof path) ? (puts(path), 0) : fail("getcwd");
}

static int verb_uname(char **a) {
  (void)a;
  struct utsname u;
  uname(&u);
  printf("%s %s\n", u.nodename, u.domainname);
  return 0;
}

/* status KEY...: lines of /proc/self/status that start so. */
static int verb_status(char **a) {
  FILE *f = fopen("/proc/self/status", "r");
  char line[512];
  while (f && fgets(line, sizeof line, f))
    for (char **k = a; *k; k++)
      if (!strncmp(line, *k, strlen(*k)) && line[strlen(*k)] == ':') fputs(line, stdout);
  return f ? 0 : fail("status");
}

/* what a process keeps of its caller besides files */
static int verb_inherited(char **a) {
  (void)a;
  mode_t mask = umask(0);
  int keyring = (int)syscall(SYS_keyctl, 0L, -3L, 0L);
  printf("pid %d\npgid %d\nsid %d\numask %03o\nnice %d\noom %s", getpid(), getpgid(0), getsid(0), mask,
         getpriority(PRIO_PROCESS, 0), "");
  fflush(stdout);
  int fd = open("/proc/self/oom_score_adj", O_RDONLY);
  if (fd >= 0) copy(fd, 1);
  int tty = open("/dev/tty", O_RDWR | O_NOCTTY);
  printf("tty %s\nkeyring %s\n", tty < 0 ? strerrorname_np(errno) : "yes", keyring < 0 ? "refused" : "open");
  char *keys[] = {"SigBlk", "SigIgn", "SigPnd", "ShdPnd", 0};
  return verb_status(keys);
}

static int verb_ids(char **a) {
  (void)a;
  gid_t groups[64];
  int n = getgroups(64, groups);
  uid_t ru, eu, su;
  gid_t rg, eg, sg;
  getresuid(&ru, &eu, &su);
  getresgid(&rg, &eg, &sg);
  printf("uid %d %d %d\ngid %d %d %d\ngroups", ru, eu, su, rg, eg, sg);
  for (int i = 0; i < n; i++) printf(" %d", groups[i]);
  puts("");
  return 0;
}

static int verb_fds(char **a) {
  (void)a;
  DIR *dir = opendir("/proc/self/fd");
  struct dirent *e;
  while (dir && (e = readdir(dir))) {
    char target[512], path[300];
    if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(dir)) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
    ssize_t n = readlink(path, target, sizeof target - 1);
    printf("%s %.*s\n", e->d_name, (int)(n < 0 ? 0 : n), target);
  }
  return dir ? 0 : fail("fds");
}

static int verb_link(char **a) {
  for (; *a; a++) {
    char target[4096];
    ssize_t n = readlink(*a, target, sizeof target);
    if (n < 0) return fail(*a);
    printf("%.*s\n", (int)n, target);
  }
  return 0;
}

static int verb_ls(char **a) {
  struct dirent **list;
  int n = scandir(a[0], &list, 0, alphasort);
  if (n < 0) return fail(a[0]);
  for (int i = 0; i < n; i++)
    if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, "..")) puts(list[i]->d_name);
  return 0;
}

/* stat PATH...: type, mode, owner, size, device; never follows */
static int verb_stat(char **a) {
  for (; *a; a++) {
    struct stat s;
    if (lstat(*a, &s) < 0) {
      printf("%s %s\n", *a, strerrorname_np(errno));
      continue;
    }
    const char *type = S_ISREG(s.st_mode)   ? "file"
                       : S_ISDIR(s.st_mode) ? "dir"
                       : S_ISLNK(s.st_mode) ? "link"
                       : S_ISCHR(s.st_mode) ? "char"
                       : S_ISBLK(s.st_mode) ? "block"
                       : S_ISFIFO(s.st_mode) ? "fifo"
                                             : "socket";
    printf("%s %s %04o %d:%d %lld %d:%d %ld\n", *a, type, s.st_mode & 07777, s.st_uid, s.st_gid, (long long)s.st_size,
           major(s.st_rdev), minor(s.st_rdev), (long)s.st_nlink);
  }
  return 0;
}

/* open PATH [r|w|rw]: "ok" or the error's name */
static int verb_open(char **a) {
  int flags = !a[1] || !strcmp(a[1], "r") ? O_RDONLY : !strcmp(a[1], "w") ? O_WRONLY : O_RDWR;
  int fd = open(a[0], flags | O_NONBLOCK | O_NOCTTY);
  puts(fd < 0 ? strerrorname_np(errno) : "ok");
  return 0;
}

static int verb_write(char **a) {
  int fd = open(a[0], O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || write_all(fd, a[1] ? a[1] : "", a[1] ? strlen(a[1]) : 0) < 0) return fail(a[0]);
  return 0;
}

static int verb_mkdir(char **a) { return mkdir(a[0], 0755) < 0 ? fail(a[0]) : 0; }
static int verb_rm(char **a) { return remove(a[0]) < 0 ? fail(a[0]) : 0; }
static int verb_exists(char **a) { return access(a[0], F_OK) < 0 ? 1 : 0; }

static int verb_xattr(char **a) {
  char value[256];
  ssize_t n = lgetxattr(a[0], a[1], value, sizeof value);
  if (n < 0) return fail(a[0]);
  printf("%.*s\n", (int)n, value);
  return 0;
}

static int verb_mknod(char **a) {
  int r = mknod(a[0], (a[1][0] == 'b' ? S_IFBLK : S_IFCHR) | 0666, makedev(atoi(a[2]), atoi(a[3])));
  puts(r < 0 ? strerrorname_np(errno) : "ok");
  return 0;
}

/* block [CODE]: waits for TERM (or INT, HUP, QUIT), then exits with CODE; the usual long-running program */
static volatile sig_atomic_t caught;
static void on_signal(int s) { caught = s; }
static int verb_block(char **a) {
  struct sigaction act = {.sa_handler = on_signal};
  int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  sigprocmask(SIG_BLOCK, &all, 0);
  for (int i = 0; i < 4; i++) sigaction(signals[i], &act, 0);
  puts("ready");
  fflush(stdout);
  while (!caught) sigsuspend(&none);
  return a[0] ? atoi(a[0]) : 0;
}

/* deaf: ignores everything that can be ignored */
static int verb_deaf(char **a) {
  (void)a;
  for (int s = 1; s < 32; s++) signal(s, SIG_IGN);
  puts("ready");
  fflush(stdout);
  while (pause()) {}
  return 1;
}

/* trap [SIGNAL CODE]: reports every signal it gets; ends with CODE on SIGNAL */
static int verb_trap(char **a) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, 0);
  puts("ready");
  fflush(stdout);
  for (int s; sigwait(&all, &s) == 0;) {
    printf("got %s\n", sigabbrev_np(s) ? sigabbrev_np(s) : "RT");
    fflush(stdout);
    if (a[0] && s == atoi(a[0])) return atoi(a[1]);
  }
  return 1;
}

/* raise N: dies by that signal where a pid 1 can (a child does, and its status is repeated by the shell's rule) */
static int verb_raise(char **a) {
  signal(atoi(a[0]), SIG_DFL);
  kill(getpid(), atoi(a[0]));
  usleep(1000);
  return 99;
}

/* burst BYTES: byte i is i modulo 251 */
static int verb_burst(char **a) {
  static unsigned char block[251 * 256];
  for (size_t i = 0; i < sizeof block; i++) block[i] = (unsigned char)(i % 251);
  for (long long left = atoll(a[0]); left > 0;) {
    size_t n = left < (long long)sizeof block ? (size_t)left : sizeof block;
    if (write_all(1, (char *)block, n) < 0) return fail("write");
    left -= (long long)n;
  }
  return 0;
}

/* lines N [TEXT]: N numbered lines, one write each */
static int verb_lines(char **a) {
  for (long i = 1; i <= atol(a[0]); i++) {
    char line[4096];
    int n = snprintf(line, sizeof line, "%ld %s\n", i, a[1] ? a[1] : "line");
    if (write_all(1, line, (size_t)n) < 0) return fail("write");
  }
  return 0;
}

/* ticks MS: a numbered line every MS milliseconds until killed (for followers) */
static int verb_ticks(char **a) {
  for (long i = 1;; i++) {
    char line[64];
    int n = snprintf(line, sizeof line, "tick %ld\n", i);
    if (write_all(1, line, (size_t)n) < 0) return fail("write");
    usleep((unsigned)atoi(a[0]) * 1000);
  }
}

static int show_size(int fd) {
  struct winsize w;
  if (ioctl(fd, TIOCGWINSZ, &w) < 0) return fail("size");
  printf("%dx%d\n", w.ws_col, w.ws_row);
  fflush(stdout);
  return 0;
}

/* tty: which of 0 1 2 are terminals, the size at the very first instruction, the terminal's name */
static int verb_tty(char **a) {
  (void)a;
  printf("%d%d%d ", isatty(0), isatty(1), isatty(2));
  show_size(0);
  printf("%s\n", isatty(0) ? ttyname(0) : "none");
  return 0;
}

/* winch: the size now and after every SIGWINCH, until a line comes on stdin */
static int verb_winch(char **a) {
  (void)a;
  struct sigaction act = {.sa_handler = on_signal};
  sigset_t block, none;
  sigemptyset(&none);
  sigemptyset(&block);
  sigaddset(&block, SIGWINCH);
  sigprocmask(SIG_BLOCK, &block, 0);
  sigaction(SIGWINCH, &act, 0);
  show_size(0);
  for (;;) {
    struct pollfd p = {.fd = 0, .events = POLLIN};
    int n = ppoll(&p, 1, 0, &none);
    if (n > 0) return 0;
    if (n < 0 && errno == EINTR) show_size(0);
  }
}

/* keys: raw mode; every byte read as two hex digits and a line, until 'Z' */
static int verb_keys(char **a) {
  (void)a;
  struct termios t;
  if (tcgetattr(0, &t) == 0) {
    cfmakeraw(&t);
    tcsetattr(0, TCSANOW, &t);
  }
  write_all(1, "ready\r\n", 7);
  unsigned char c;
  while (read(0, &c, 1) == 1) {
    dprintf(1, "%02x\r\n", c);
    if (c == 'Z') return 0;
  }
  return 1;
}

/* orphans N: N grandchildren end as children of pid 1; says how many zombies pid 1 then leaves */
static int verb_orphans(char **a) {
  for (int i = 0; i < atoi(a[0]); i++) {
    pid_t child = fork();
    if (child == 0) {
      if (fork() == 0) {
        while (getppid() != 1) sched_yield();
        _exit(0);
      }
      _exit(0);
    }
    waitpid(child, 0, 0);
  }
  int zombies = 0;
  for (int round = 0; round < 200; round++) {
    DIR *dir = opendir("/proc");
    struct dirent *e;
    int alive = 0;
    zombies = 0;
    while ((e = readdir(dir))) {
      char path[300], text[512];
      if (atoi(e->d_name) <= 1 || atoi(e->d_name) == getpid()) continue;
      snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
      int fd = open(path, O_RDONLY);
      ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
      if (fd >= 0) close(fd);
      text[n < 0 ? 0 : n] = 0;
      char *state = strrchr(text, ')');
      if (state && state[2] == 'Z') zombies++;
      else if (state) alive++;
    }
    closedir(dir);
    if (zombies == 0 && alive == 0) break;
    usleep(10000);
  }
  printf("zombies %d\n", zombies);
  return 0;
}

/* leave CODE: forks a child that holds stdout open and never ends, then exits */
static int verb_leave(char **a) {
  if (fork() == 0)
    for (;;) pause();
  return atoi(a[0]);
}

/* spawn N: how many of N children can exist at once */
static int verb_spawn(char **a) {
  int made = 0;
  for (int i = 0; i < atoi(a[0]); i++) {
    pid_t child = fork();
    if (child == 0)
      for (;;) pause();
    if (child < 0) break;
    made++;
  }
  printf("made %d\n", made);
  return 0;
}

/* memory MIB: touches that much, then says so */
static int verb_memory(char **a) {
  size_t size = (size_t)atol(a[0]) << 20;
  char *p = malloc(size);
  if (!p) return fail("malloc");
  for (size_t i = 0; i < size; i += 4096) p[i] = 1;
  puts("touched");
  return 0;
}

/* spin MS: burns that much processor time, says how long it took by the clock */
static int verb_spin(char **a) {
  struct timespec start, now, cpu;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  while (cpu.tv_sec * 1000 + cpu.tv_nsec / 1000000 < atol(a[0]));
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%ld\n", (long)((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000));
  return 0;
}

static int verb_limits(char **a) {
  (void)a;
  struct {
    const char *name;
    int what;
  } all[] = {{"nofile", RLIMIT_NOFILE}, {"core", RLIMIT_CORE}, {"nproc", RLIMIT_NPROC}, {"memlock", RLIMIT_MEMLOCK}};
  for (int i = 0; i < 4; i++) {
    struct rlimit l;
    getrlimit(all[i].what, &l);
    printf("%s %lld %lld\n", all[i].name, (long long)l.rlim_cur, (long long)l.rlim_max);
  }
  return 0;
}

/* refused NAME...: calls the kernel in a way that is harmless if it is let through; prints the error's name or "ok" */
static int verb_refused(char **a) {
  if (access("/tiny", F_OK) < 0) return fail("only inside a test image");
  for (; *a; a++) {
    long r = -1;
    errno = 0;
    int child = 0;
    if (!strcmp(*a, "userns")) r = unshare(CLONE_NEWUSER);
    else if (!strcmp(*a, "mountns")) r = unshare(CLONE_NEWNS);
    else if (!strcmp(*a, "mount")) r = mount("none", "/tmp", "tmpfs", 0, 0);
    else if (!strcmp(*a, "umount")) r = umount2("/proc", MNT_DETACH);
    else if (!strcmp(*a, "setns")) r = setns(open("/proc/self/ns/uts", O_RDONLY), CLONE_NEWUTS);
    else if (!strcmp(*a, "clone3")) {
      unsigned long long args[8] = {0};
      args[4] = SIGCHLD;
      r = syscall(SYS_clone3, args, sizeof args);
      if (r == 0) _exit(0);
      child = r > 0;
    } else if (!strcmp(*a, "clone-userns")) {
      r = syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | SIGCHLD), 0, 0, 0, 0);
      if (r == 0) _exit(0);
      child = r > 0;
    } else if (!strcmp(*a, "keyctl")) r = syscall(SYS_keyctl, 0L, -3L, 0L);
    else if (!strcmp(*a, "add_key")) r = syscall(SYS_add_key, "user", "x", "y", 1L, -3L);
    else if (!strcmp(*a, "io_uring")) {
      char params[120] = {0};
      r = syscall(SYS_io_uring_setup, 1L, params);
    } else if (!strcmp(*a, "bpf")) r = syscall(SYS_bpf, 99L, 0L, 0L);
    else if (!strcmp(*a, "perf")) r = syscall(SYS_perf_event_open, 0L, 0L, 0L, 0L, 0L);
    else if (!strcmp(*a, "userfaultfd")) r = syscall(SYS_userfaultfd, 0L);
    else if (!strcmp(*a, "reboot")) r = syscall(SYS_reboot, 0L, 0L, 0L, 0L);
    else if (!strcmp(*a, "swapon")) r = syscall(SYS_swapon, "/none", 0L);
    else if (!strcmp(*a, "vsock")) r = socket(AF_VSOCK, SOCK_STREAM, 0);
    else if (!strcmp(*a, "inet")) r = socket(AF_INET, SOCK_STREAM, 0);
    else if (!strcmp(*a, "raw")) r = socket(AF_INET, SOCK_RAW, 1);
    else if (!strcmp(*a, "unknown")) r = syscall(4000L);
    else if (!strcmp(*a, "chroot")) r = chroot("/");
    else if (!strcmp(*a, "settime")) {
      struct timespec t;
      clock_gettime(CLOCK_REALTIME, &t);
      r = clock_settime(CLOCK_REALTIME, &t);
    } else if (!strcmp(*a, "ptrace")) {
      pid_t other = fork();
      if (other == 0) {
        pause();
        _exit(0);
      }
      r = syscall(SYS_ptrace, 16L, (long)other, 0L, 0L);
      int e = errno;
      kill(other, SIGKILL);
      waitpid(other, 0, __WALL);
      errno = e;
    } else if (!strcmp(*a, "sethostname")) r = sethostname("x", 1);
    else return 2;
    printf("%s %s\n", *a, r < 0 ? strerrorname_np(errno) : "ok");
    if (child) waitpid((pid_t)r, 0, 0);
  }
  return 0;
}

/* engine: waits until a process that is not this program shows in /proc, and keeps its executable open until it is
 * gone; then tries to write to it. What CVE-2019-5736 did. */
static int verb_engine(char **a) {
  if (access("/tiny", F_OK) < 0) return fail("only inside a test image");
  (void)a;
  puts("ready");
  fflush(stdout);
  for (;;) {
    DIR *dir = opendir("/proc");
    struct dirent *e;
    while ((e = readdir(dir))) {
      char path[300], target[512];
      if (atoi(e->d_name) <= 0) continue;
      snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
      ssize_t n = readlink(path, target, sizeof target - 1);
      target[n < 0 ? 0 : n] = 0;
      if (n < 0 || !strcmp(target, "/tiny")) continue;
      int fd = open(path, O_PATH);
      if (fd < 0) continue;
      printf("seen %s\n", target);
      snprintf(path, sizeof path, "/proc/%s", e->d_name);
      while (access(path, F_OK) == 0) usleep(1000);
      snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      int out = open(path, O_WRONLY);
      printf("write %s\n", out < 0 ? strerrorname_np(errno) : "ok");
      return 0;
    }
    closedir(dir);
  }
}

static const struct {
  const char *name;
  int (*run)(char **);
} verbs[] = {
    {"exit", verb_exit},       {"print", verb_print},   {"hex", verb_hex},         {"hex2", verb_hex2},
    {"both", verb_both},       {"cat", verb_cat},       {"args", verb_args},       {"env", verb_env},
    {"cwd", verb_cwd},         {"uname", verb_uname},   {"status", verb_status},   {"inherited", verb_inherited},
    {"ids", verb_ids},         {"fds", verb_fds},       {"link", verb_link},       {"ls", verb_ls},
    {"stat", verb_stat},       {"open", verb_open},     {"write", verb_write},     {"mkdir", verb_mkdir},
    {"rm", verb_rm},           {"exists", verb_exists}, {"xattr", verb_xattr},     {"mknod", verb_mknod},
    {"block", verb_block},     {"deaf", verb_deaf},     {"trap", verb_trap},       {"raise", verb_raise},
    {"burst", verb_burst},     {"lines", verb_lines},   {"ticks", verb_ticks},     {"tty", verb_tty},
    {"winch", verb_winch},     {"keys", verb_keys},     {"orphans", verb_orphans}, {"leave", verb_leave},
    {"spawn", verb_spawn},     {"memory", verb_memory}, {"spin", verb_spin},       {"limits", verb_limits},
    {"refused", verb_refused}, {"engine", verb_engine}, {"sctp", verb_sctp},       {"service", verb_service},
};

int main(int argc, char **argv) {
  /* the base name is a verb when it is one: an image can have /true and /false without a shell */
  (void)argc;
  const char *base = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
  if (!strcmp(base, "true")) return 0;
  if (!strcmp(base, "false")) return 1;
  if (!argv[1]) return puts("tiny"), 0;
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (!strcmp(argv[1], verbs[i].name)) return verbs[i].run(argv + 2);
  dprintf(2, "no verb %s\n", argv[1]);
  return 2;
}
