/* Lets the daemon run in clknetsim. Preloaded before clknetsim.so, which replaces the calls of the C library that have to do
 * with time and the network, but knows nothing of epoll and of flags of sockets, and leaves out what a kernel says. What
 * is of the simulation (sockets of the internet, clocks) goes on to clknetsim; all else goes to the kernel past it. Only for a
 * daemon of one thread: one that serves nobody, writes no files of measurements and knows its servers by address. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 1024
/* Descriptors that clknetsim gives out for sockets; those of the kernel are lower. */
#define IS_SIM(fd) ((fd) >= 100 && (fd) < 200)
#define IN_TABLE(fd) ((fd) >= 0 && (fd) < MAX_FD)
/* The same function of the library that comes after this one, which is clknetsim. */
#define NEXT(ret, name, ...) \
	static ret (*next)(__VA_ARGS__); \
	if (!next) next = (ret (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void refuse(const char *what)
{
	fprintf(stderr, "clkshim: %s\n", what);
	abort();
}

/* Past every library that is preloaded. */
static long kernel(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	if (n == SYS_clock_adjtime || n == SYS_adjtimex || n == SYS_settimeofday || n == SYS_clock_settime)
		refuse("a call that would set the machine's clock");
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (r < 0 && r > -4096) {
		errno = -r;
		return -1;
	}
	return r;
}

/* Without clknetsim behind this library the daemon would steer the machine's clock. */
__attribute__((constructor)) static void check(void)
{
	static const char *const calls[] = {"clock_adjtime", "clock_gettime", "sendto", "select"};
	Dl_info from;
	size_t i;
	for (i = 0; i < sizeof calls / sizeof *calls; i++) {
		void *call = dlsym(RTLD_NEXT, calls[i]);
		if (!call || !dladdr(call, &from) || !strstr(from.dli_fname, "clknetsim"))
			refuse("clknetsim.so is not the library after this one");
	}
}

/* ---- clocks */

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	NEXT(int, clock_gettime, clockid_t, struct timespec *);
	/* Clocks of devices are the machine's. */
	if (clock < 0) {
		errno = EINVAL;
		return -1;
	}
	/* Nothing sleeps in the simulation. */
	return next(clock == CLOCK_BOOTTIME ? CLOCK_MONOTONIC : clock, ts);
}

/* What Linux does and clknetsim does not: the time of the call is returned, in nanoseconds once somebody asked for these, and
 * bits of the status that are only to be read may be written in vain. */
int clock_adjtime(clockid_t clock, struct timex *tx)
{
	static int nano;
	struct timespec ts;
	unsigned int modes = tx->modes;
	int r;
	NEXT(int, clock_adjtime, clockid_t, struct timex *);
	if (modes & ADJ_STATUS) tx->status &= ~STA_RONLY;
	r = next(clock, tx);
	if (r < 0) return r;
	if (modes & ADJ_NANO) nano = 1;
	clock_gettime(clock, &ts);
	tx->time.tv_sec = ts.tv_sec;
	tx->time.tv_usec = nano ? ts.tv_nsec : ts.tv_nsec / 1000;
	tx->status = (tx->status & ~STA_NANO) | (nano ? STA_NANO : 0);
	return r;
}

/* ---- what the daemon may do */

uid_t geteuid(void)
{
	return 65534; /* so that there are no privileges to drop */
}

/* The daemon asks whether it may set the clock. The simulated one it may; it has no right to set the real one. */
static const struct {
	const char *path, *text;
} answers[] = {{"/proc/self/status", "CapEff:\t0000000002000000\n"}, {"/proc/self/uid_map", "0 0 4294967295\n"}};

int open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;
	size_t i;
	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	for (i = 0; i < sizeof answers / sizeof *answers; i++) {
		int fd;
		if (strcmp(path, answers[i].path)) continue;
		fd = kernel(SYS_memfd_create, (long)"answer", MFD_CLOEXEC, 0, 0, 0, 0);
		if (fd < 0) return fd;
		kernel(SYS_write, fd, (long)answers[i].text, strlen(answers[i].text), 0, 0, 0);
		kernel(SYS_lseek, fd, 0, SEEK_SET, 0, 0, 0);
		return fd;
	}
	return kernel(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
}

/* clknetsim has one connection to its server, and answers one thread at a time. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	(void)thread, (void)attr, (void)start, (void)arg;
	refuse("a second thread, which the simulation cannot have");
	return EAGAIN;
}

/* From the seed of the simulation, which knows no flags. */
ssize_t getrandom(void *bytes, size_t size, unsigned int flags)
{
	NEXT(ssize_t, getrandom, void *, size_t, unsigned int);
	(void)flags;
	return next(bytes, size, 0);
}

/* Libraries that call the kernel by number. */
long syscall(long n, ...)
{
	va_list ap;
	long a[6];
	int i;
	va_start(ap, n);
	for (i = 0; i < 6; i++) a[i] = va_arg(ap, long);
	va_end(ap);
	if (n == SYS_getrandom) return getrandom((void *)a[0], a[1], 0);
	return kernel(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- epoll, by select */

#define MAX_WATCHED 256
static struct watched {
	int set, fd; /* 0 is no set: that is standard input */
	uint32_t wanted, ready;
	uint64_t data;
} watched[MAX_WATCHED];
static struct {
	int set;		  /* for descriptors of sets: the first that led to it */
	char is_event, is_woken;  /* an eventfd, and whether it was written since it was last reported */
	char has_packet, has_stamp; /* what select said, and nobody took since */
} fds[MAX_FD];

int epoll_create1(int flags)
{
	int fd = kernel(SYS_epoll_create1, flags, 0, 0, 0, 0, 0);
	if (IN_TABLE(fd)) fds[fd].set = fd;
	return fd;
}

int epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	struct watched *w = NULL, *unused = NULL;
	int i, set = IN_TABLE(ep) ? fds[ep].set : 0;
	if (!set || !IN_TABLE(fd)) {
		errno = EBADF;
		return -1;
	}
	for (i = 0; i < MAX_WATCHED; i++) {
		if (watched[i].set == set && watched[i].fd == fd) w = &watched[i];
		if (!watched[i].set && !unused) unused = &watched[i];
	}
	if ((op == EPOLL_CTL_ADD) == (w != NULL) || (!w && !unused)) {
		errno = !w ? ENOENT : EEXIST;
		return -1;
	}
	if (op == EPOLL_CTL_DEL) {
		w->set = 0;
		return 0;
	}
	if (!w) w = unused;
	/* The daemon asks for edges: whatever can be written to is reported once. */
	*w = (struct watched){set, fd, event->events, fds[fd].is_event ? 0 : event->events & EPOLLOUT, event->data.u64};
	return 0;
}

static int take_ready(int set, struct epoll_event *out, int max)
{
	int i, n = 0;
	for (i = 0; i < MAX_WATCHED && n < max; i++) {
		if (watched[i].set != set || !watched[i].ready) continue;
		out[n].events = watched[i].ready;
		out[n++].data.u64 = watched[i].data;
		watched[i].ready = 0;
	}
	return n;
}

/* Looks at what is not of the simulation, without waiting. */
static void look_at_kernel(int set)
{
	int i;
	for (i = 0; i < MAX_WATCHED; i++) {
		struct watched *w = &watched[i];
		struct pollfd pf = {w->fd, POLLIN, 0};
		if (w->set != set || IS_SIM(w->fd)) continue;
		if (fds[w->fd].is_event) {
			if (fds[w->fd].is_woken) w->ready |= EPOLLIN;
			fds[w->fd].is_woken = 0;
		} else if (kernel(SYS_poll, (long)&pf, 1, 0, 0, 0, 0) > 0) {
			w->ready |= pf.revents & (POLLIN | POLLERR | POLLHUP);
		}
	}
}

int epoll_wait(int ep, struct epoll_event *out, int max, int timeout)
{
	int i, r, last = -1, set = IN_TABLE(ep) ? fds[ep].set : 0;
	struct timeval tv = {1000000, 0};
	fd_set packets, stamps;

	look_at_kernel(set);
	r = take_ready(set, out, max);
	if (r || timeout == 0) return r;

	FD_ZERO(&packets);
	FD_ZERO(&stamps);
	for (i = 0; i < MAX_WATCHED; i++) {
		struct watched *w = &watched[i];
		if (w->set != set || !IS_SIM(w->fd)) continue;
		FD_SET(w->fd, &packets);
		FD_SET(w->fd, &stamps);
		if (w->fd > last) last = w->fd;
	}
	if (timeout > 0) {
		tv.tv_sec = timeout / 1000;
		tv.tv_usec = timeout % 1000 * 1000;
	}
	r = select(last + 1, &packets, NULL, &stamps, &tv);
	if (r <= 0) return r;
	for (i = 0; i < MAX_WATCHED; i++) {
		struct watched *w = &watched[i];
		if (w->set != set || !IS_SIM(w->fd)) continue;
		if (FD_ISSET(w->fd, &packets)) {
			w->ready |= EPOLLIN;
			fds[w->fd].has_packet = 1;
		}
		if (FD_ISSET(w->fd, &stamps)) {
			w->ready |= EPOLLERR;
			fds[w->fd].has_stamp = 1;
		}
	}
	return take_ready(set, out, max);
}

int eventfd(unsigned int value, int flags)
{
	int fd = kernel(SYS_eventfd2, value, flags, 0, 0, 0, 0);
	if (IN_TABLE(fd)) fds[fd].is_event = 1;
	return fd;
}

/* ---- descriptors */

ssize_t write(int fd, const void *bytes, size_t size)
{
	if (IN_TABLE(fd) && fds[fd].is_event) fds[fd].is_woken = 1;
	return kernel(SYS_write, fd, (long)bytes, size, 0, 0, 0);
}

int close(int fd)
{
	int i;
	NEXT(int, close, int);
	for (i = 0; i < MAX_WATCHED; i++)
		if (watched[i].fd == fd) watched[i].set = 0;
	if (IN_TABLE(fd)) memset(&fds[fd], 0, sizeof fds[fd]);
	return IS_SIM(fd) ? next(fd) : kernel(SYS_close, fd, 0, 0, 0, 0, 0);
}

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;
	int r;
	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	if (IS_SIM(fd)) return 0;
	r = kernel(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
	if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && IN_TABLE(r) && IN_TABLE(fd)) fds[r].set = fds[fd].set;
	return r;
}

int poll(struct pollfd *pollfds, nfds_t count, int timeout)
{
	return kernel(SYS_poll, (long)pollfds, count, timeout, 0, 0, 0);
}

/* ---- sockets */

int socket(int domain, int type, int protocol)
{
	NEXT(int, socket, int, int, int);
	if (domain == AF_UNIX) return kernel(SYS_socket, domain, type, protocol, 0, 0, 0);
	if (domain == AF_INET) return next(domain, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), protocol);
	/* The kernel would tell of the machine's own network. */
	errno = EAFNOSUPPORT;
	return -1;
}

/* It would tell when the machine's own clock is set. */
int timerfd_create(int clock, int flags)
{
	(void)clock, (void)flags;
	errno = ENOSYS;
	return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	NEXT(int, ioctl, int, unsigned long, ...);
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!IS_SIM(fd)) return kernel(SYS_ioctl, fd, request, (long)arg, 0, 0, 0);
	return request == FIONBIO ? 0 : next(fd, request, arg);
}

/* FORWARD(name, number, parameters, arguments, those of a system call): the simulation's or the kernel's. */
#define FORWARD(name, parameters, arguments, ...) \
	int name parameters \
	{ \
		static int(*next) parameters; \
		if (!next) next = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
		return IS_SIM(fd) ? next arguments : kernel(SYS_##name, fd, __VA_ARGS__); \
	}

FORWARD(bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), (long)a, n, 0, 0, 0)
FORWARD(connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), (long)a, n, 0, 0, 0)
FORWARD(listen, (int fd, int n), (fd, n), n, 0, 0, 0, 0)
FORWARD(shutdown, (int fd, int how), (fd, how), how, 0, 0, 0, 0)
FORWARD(getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n), (long)a, (long)n, 0, 0, 0)
FORWARD(setsockopt, (int fd, int l, int o, const void *v, socklen_t n), (fd, l, o, v, n), l, o, (long)v, n, 0)
FORWARD(getsockopt, (int fd, int l, int o, void *v, socklen_t *n), (fd, l, o, v, n), l, o, (long)v, (long)n, 0)

/* clknetsim hands out the next packet of the whole node, whichever socket is asked and for what. So nobody asks for what
 * select did not say is there. */
static int is_there(int fd, int flags)
{
	char *there = flags & MSG_ERRQUEUE ? &fds[fd].has_stamp : &fds[fd].has_packet;
	if (!*there) {
		errno = EAGAIN;
		return 0;
	}
	*there = 0;
	return 1;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	NEXT(ssize_t, recvmsg, int, struct msghdr *, int);
	if (!IS_SIM(fd)) return kernel(SYS_recvmsg, fd, (long)message, flags, 0, 0, 0);
	return is_there(fd, flags) ? next(fd, message, flags & MSG_ERRQUEUE) : -1;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
	ssize_t length;
	if (!IS_SIM(fd)) return kernel(SYS_recvmmsg, fd, (long)messages, count, flags, (long)timeout, 0);
	length = recvmsg(fd, &messages->msg_hdr, flags);
	if (length < 0) return -1;
	messages->msg_len = length;
	return 1;
}

ssize_t recvfrom(int fd, void *bytes, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
	NEXT(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *);
	if (!IS_SIM(fd)) return kernel(SYS_recvfrom, fd, (long)bytes, size, flags, (long)from, (long)length);
	return is_there(fd, flags) ? next(fd, bytes, size, flags, from, length) : -1;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
	return recvfrom(fd, bytes, size, flags, NULL, NULL);
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
	NEXT(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	if (!IS_SIM(fd)) return kernel(SYS_sendto, fd, (long)bytes, size, flags, (long)to, length);
	return next(fd, bytes, size, flags, to, length);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	NEXT(ssize_t, send, int, const void *, size_t, int);
	if (!IS_SIM(fd)) return kernel(SYS_sendto, fd, (long)bytes, size, flags, 0, 0);
	/* It knows no flags; its sockets raise no signals and never wait. */
	return next(fd, bytes, size, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	NEXT(ssize_t, sendmsg, int, const struct msghdr *, int);
	if (!IS_SIM(fd)) return kernel(SYS_sendmsg, fd, (long)message, flags, 0, 0, 0);
	return next(fd, message, flags);
}
