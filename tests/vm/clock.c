/* The witness in the guest: what the kernel says about its clock, and how far that is from true time, by means that have
 * nothing to do with the daemon. True time is CLOCK_MONOTONIC_RAW, which steering does not move, plus what `truth` wrote
 * into a file.
 *
 *   clock show               one line of JSON
 *   clock watch SECONDS      the same at each change of state, status, tick or frequency
 *   clock wait LIMIT SECONDS until the kernel calls the clock synchronized and it is right to LIMIT seconds, then the same
 *   clock raw                seconds on CLOCK_MONOTONIC_RAW
 *   clock set UNIX           sets the clock; only in a guest
 *   clock step SECONDS       moves the clock; only in a guest
 *   clock frequency PPM      sets the frequency, as another daemon does; only in a guest
 *   clock slew SECONDS       begins a slew by adjtime(3); only in a guest
 *   clock loop SECONDS       has the kernel's loop make up for an offset, fast; only in a guest
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define TRUTH "/run/truth"

static int64_t read_clock(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

/* Base in nanoseconds, and the second before which another one is inserted, or 0. */
static int64_t base, leap;

static int64_t error_now(void)
{
	int64_t best = INT64_MAX, error = 0;
	for (int i = 0; i < 8; i++) {
		int64_t before = read_clock(CLOCK_MONOTONIC_RAW);
		int64_t clock = read_clock(CLOCK_REALTIME);
		int64_t after = read_clock(CLOCK_MONOTONIC_RAW);
		if (after - before < best) {
			int64_t truth = base + before + (after - before) / 2;
			if (leap && truth >= leap * SECOND)
				truth -= SECOND;
			best = after - before;
			error = clock - truth;
		}
	}
	return error;
}

static struct timex read_kernel(int *state)
{
	struct timex kernel;
	memset(&kernel, 0, sizeof kernel);
	*state = adjtimex(&kernel);
	return kernel;
}

static void show(const struct timex *kernel, int state)
{
	static const char *names[] = {"OK", "INS", "DEL", "OOP", "WAIT", "ERROR"};
	long fraction = kernel->status & STA_NANO ? kernel->time.tv_usec : kernel->time.tv_usec * 1000;
	struct timex rest = {.modes = ADJ_OFFSET_SS_READ};
	adjtimex(&rest);
	printf("{\"state\": \"%s\", \"unsync\": %d, \"ins\": %d, \"pll\": %d, \"ppm\": %.6f, \"tick\": %ld, \"maxerror\": %ld, "
	       "\"esterror\": %ld, \"tai\": %d, \"offset\": %ld, \"slew\": %ld, \"unix\": %lld.%09ld, \"error\": %.9f, \"raw\": %.3f}\n",
	       state >= 0 && state < 6 ? names[state] : "?", !!(kernel->status & STA_UNSYNC), !!(kernel->status & STA_INS),
	       !!(kernel->status & (STA_PLL | STA_FLL)), kernel->freq / 65536.0, kernel->tick, kernel->maxerror, kernel->esterror,
	       kernel->tai, kernel->offset, rest.offset, (long long)kernel->time.tv_sec, fraction, error_now() / 1e9,
	       read_clock(CLOCK_MONOTONIC_RAW) / 1e9);
	fflush(stdout);
}

static int usage(void)
{
	fprintf(stderr, "clock: show | watch SECONDS | wait LIMIT SECONDS | raw | set UNIX | step SECONDS | "
			"frequency PPM | slew SECONDS | loop SECONDS\n");
	return 2;
}

static int in_guest(void)
{
	static char text[65536];
	FILE *file = fopen("/proc/cpuinfo", "r");
	size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
	text[length] = 0;
	return access("/guest", F_OK) == 0 && strstr(text, "User Mode Linux") != NULL;
}

static int watch(double seconds)
{
	struct timex last = {.tick = -1};
	int last_state = -1;
	int64_t end = read_clock(CLOCK_MONOTONIC_RAW) + (int64_t)(seconds * 1e9);
	while (read_clock(CLOCK_MONOTONIC_RAW) < end) {
		int state;
		struct timex kernel = read_kernel(&state);
		if (state != last_state || kernel.status != last.status || kernel.tick != last.tick || kernel.freq != last.freq)
			show(&kernel, state);
		last = kernel;
		last_state = state;
		usleep(10000);
	}
	return 0;
}

static int wait_for(double limit, double seconds)
{
	int64_t end = read_clock(CLOCK_MONOTONIC_RAW) + (int64_t)(seconds * 1e9);
	for (;;) {
		int state;
		struct timex kernel = read_kernel(&state);
		int64_t error = error_now();
		int done = !(kernel.status & STA_UNSYNC) && error < limit * 1e9 && error > -limit * 1e9;
		if (done || read_clock(CLOCK_MONOTONIC_RAW) >= end) {
			show(&kernel, state);
			return !done;
		}
		usleep(50000);
	}
}

int main(int count, char **words)
{
	FILE *truth = fopen(TRUTH, "r");
	if (truth && fscanf(truth, "%lld %lld", (long long *)&base, (long long *)&leap) != 2)
		base = leap = 0;
	const char *verb = count > 1 ? words[1] : "";
	if (!strcmp(verb, "show") && count == 2) {
		int state;
		struct timex kernel = read_kernel(&state);
		show(&kernel, state);
		return 0;
	}
	if (!strcmp(verb, "watch") && count == 3)
		return watch(atof(words[2]));
	if (!strcmp(verb, "wait") && count == 4)
		return wait_for(atof(words[2]), atof(words[3]));
	if (!strcmp(verb, "raw") && count == 2)
		return printf("%.3f\n", read_clock(CLOCK_MONOTONIC_RAW) / 1e9) < 0;
	if (count != 3 || (strcmp(verb, "set") && strcmp(verb, "step") && strcmp(verb, "frequency") && strcmp(verb, "slew") &&
			   strcmp(verb, "loop")))
		return usage();
	if (!in_guest()) {
		fprintf(stderr, "clock: this is no guest; the clock stays as it is\n");
		return 3;
	}
	double argument = atof(words[2]);
	int64_t nanos = (int64_t)(argument * 1e9);
	int failed;
	if (!strcmp(verb, "set")) {
		struct timespec to = {.tv_sec = nanos / SECOND, .tv_nsec = nanos % SECOND};
		failed = clock_settime(CLOCK_REALTIME, &to);
	} else if (!strcmp(verb, "frequency")) {
		struct timex frequency = {.modes = ADJ_FREQUENCY, .freq = (long)(argument * 65536)};
		failed = adjtimex(&frequency) < 0;
	} else if (!strcmp(verb, "slew")) {
		struct timeval by = {.tv_sec = nanos / SECOND, .tv_usec = nanos % SECOND / 1000};
		failed = adjtime(&by, NULL);
	} else if (!strcmp(verb, "loop")) {
		int state;
		struct timex loop = {.modes = ADJ_STATUS | ADJ_NANO | ADJ_TIMECONST | ADJ_OFFSET, .constant = 0, .offset = nanos};
		loop.status = read_kernel(&state).status | STA_PLL;
		failed = adjtimex(&loop) < 0;
	} else {
		struct timex step;
		memset(&step, 0, sizeof step);
		step.modes = ADJ_SETOFFSET | ADJ_NANO;
		step.time.tv_sec = nanos / SECOND - (nanos % SECOND < 0);
		step.time.tv_usec = nanos % SECOND + (nanos % SECOND < 0 ? SECOND : 0);
		failed = adjtimex(&step) < 0;
	}
	if (failed)
		perror("clock");
	return failed != 0;
}
