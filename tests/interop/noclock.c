/* Keeps a time daemon from setting the clock: preloaded, it lets every change of the clock seem to succeed and does
 * nothing. The peers of the interoperability tests run with it, and without the capability to set the clock besides. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

static long frequency;

static int pretend(struct timex *change) {
	int (*read_state)(clockid_t, struct timex *) = dlsym(RTLD_NEXT, "clock_adjtime");
	struct timex state = {0};
	if (change->modes & ADJ_FREQUENCY)
		frequency = change->freq;
	int result = read_state ? read_state(CLOCK_REALTIME, &state) : TIME_OK;
	unsigned modes = change->modes;
	*change = state;
	change->modes = modes;
	change->freq = frequency;
	return result < 0 ? TIME_OK : result;
}

int adjtimex(struct timex *change) { return pretend(change); }
int ntp_adjtime(struct timex *change) { return pretend(change); }
int clock_adjtime(clockid_t clock, struct timex *change) { (void)clock; return pretend(change); }
int adjtime(const struct timeval *delta, struct timeval *old) {
	(void)delta;
	if (old != NULL)
		old->tv_sec = old->tv_usec = 0;
	return 0;
}
int settimeofday(const struct timeval *tv, const struct timezone *tz) { (void)tv; (void)tz; return 0; }
int clock_settime(clockid_t clock, const struct timespec *time) { (void)clock; (void)time; return 0; }
