/* A slow, lossy link between two network namespaces, for kernels without netem.
 *
 *     linkemu NETNS_A TAP_A NETNS_B TAP_B SEED ORDER A_TO_B B_TO_A
 *
 * NETNS_* are file descriptors of namespaces, inherited. A TAP device is made in each, and every Ethernet frame
 * that leaves by one enters by the other after a delay of its own. ORDER: "any", frames may overtake each other as
 * with netem, or "fifo". A direction is SHAPE:BASE:JITTER:LOSS:STALLS:LEAST:MOST, times in microseconds:
 *
 *     uniform  BASE - JITTER to BASE + JITTER
 *     exp      BASE + Exp(mean JITTER)
 *     gamma    BASE + Gamma(2, mean JITTER)
 *
 * LOSS is the share of frames lost; STALLS, how often a second the direction stands still for LEAST to MOST.
 * It says "ready", and ends on SIGTERM or with its parent; what it did goes to stderr then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MOST_HELD 4096
#define MOST_BYTES 2048
#define SECOND 1000000000LL

struct frame {
    int64_t due;
    uint64_t number;
    int bytes;
    unsigned char data[MOST_BYTES];
};

struct direction {
    char shape[16];
    double base_us, jitter_us, loss, stalls, least_us, most_us;
    int from, to, held;
    int64_t last_due, stalled_until, drawn_until;
    struct frame *heap[MOST_HELD + 1], *spare[MOST_HELD + 1];
    int spares;
    unsigned long passed, lost;
    double late_us, latest_us;
};

static struct direction directions[2];
static uint64_t state[2], number;
static volatile sig_atomic_t ending;

static void end(int number) {
    (void)number;
    ending = 1;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* xoroshiro128+ 1.0 (Blackman and Vigna), as a number between 0 and 1 without either. */
static double chance(void) {
    uint64_t first = state[0], second = state[1], sum = first + second;
    second ^= first;
    state[0] = (first << 24 | first >> 40) ^ second ^ second << 16;
    state[1] = second << 37 | second >> 27;
    return ((double)(sum >> 11) + 0.5) / 9007199254740992.0;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int tap(int space, const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (setns(space, CLONE_NEWNET)) fail("setns");
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
    if (ioctl(device, TUNSETIFF, &request)) fail("TUNSETIFF");
    return device;
}

static void configure(struct direction *way, const char *text) {
    int found = sscanf(text, "%15[a-z]:%lf:%lf:%lf:%lf:%lf:%lf", way->shape, &way->base_us, &way->jitter_us,
                       &way->loss, &way->stalls, &way->least_us, &way->most_us);
    if (found != 7 || (strcmp(way->shape, "uniform") && strcmp(way->shape, "exp") && strcmp(way->shape, "gamma"))) {
        fprintf(stderr, "direction %s: wanted SHAPE:BASE:JITTER:LOSS:STALLS:LEAST:MOST\n", text);
        exit(2);
    }
    for (; way->spares < MOST_HELD; way->spares++)
        if (!(way->spare[way->spares] = malloc(sizeof(struct frame)))) fail("malloc");
}

static double delay_us(const struct direction *way) {
    switch (way->shape[0]) {
    case 'u': return way->base_us + way->jitter_us * (2 * chance() - 1);
    case 'e': return way->base_us - way->jitter_us * log(chance());
    default: return way->base_us - way->jitter_us / 2 * (log(chance()) + log(chance()));
    }
}

static int before(const struct frame *one, const struct frame *other) {
    return one->due != other->due ? one->due < other->due : one->number < other->number;
}

static void hold(struct direction *way, struct frame *frame) {
    int at = ++way->held;
    for (; at > 1 && before(frame, way->heap[at / 2]); at /= 2) way->heap[at] = way->heap[at / 2];
    way->heap[at] = frame;
}

static struct frame *first(struct direction *way) {
    struct frame *found = way->heap[1], *last = way->heap[way->held--];
    int at = 1;
    for (int child; (child = 2 * at) <= way->held; at = child) {
        if (child < way->held && before(way->heap[child + 1], way->heap[child])) child++;
        if (!before(way->heap[child], last)) break;
        way->heap[at] = way->heap[child];
    }
    way->heap[at] = last;
    return found;
}

static int64_t due(struct direction *way, int fifo) {
    int64_t time = now(), found = time + (int64_t)(delay_us(way) * 1e3);
    /* Whether a stall begins is drawn for each 10 ms, but only where there is something that it can hold up. */
    if (way->stalls > 0 && time >= way->drawn_until) {
        double past_s = way->drawn_until ? (double)(time - way->drawn_until) / 1e9 + 0.01 : 0.01;
        way->drawn_until = time + SECOND / 100;
        if (chance() < way->stalls * (past_s < 1 ? past_s : 1))
            way->stalled_until = time + (int64_t)((way->least_us + (way->most_us - way->least_us) * chance()) * 1e3);
    }
    if (found < way->stalled_until) found = way->stalled_until;
    if (fifo && found < way->last_due) found = way->last_due;
    return way->last_due = found;
}

static void take(struct direction *way, int fifo) {
    for (int turn = 0; turn < 64; turn++) {
        unsigned char dropped[MOST_BYTES];
        struct frame *frame = way->spares ? way->spare[way->spares - 1] : NULL;
        ssize_t bytes = read(way->from, frame ? frame->data : dropped, MOST_BYTES);
        if (bytes <= 0) return;
        if (!frame || chance() < way->loss) {
            way->lost++;
            continue;
        }
        way->spares--;
        frame->bytes = (int)bytes;
        frame->number = number++;
        frame->due = due(way, fifo);
        hold(way, frame);
    }
}

static int64_t release(struct direction *way) {
    while (way->held && way->heap[1]->due <= now()) {
        struct frame *frame = first(way);
        double late_us = (double)(now() - frame->due) / 1e3;
        /* A device that is down takes nothing: EIO. */
        if (write(way->to, frame->data, (size_t)frame->bytes) < 0 && errno != EIO && errno != EAGAIN) fail("write");
        way->late_us += late_us;
        if (late_us > way->latest_us) way->latest_us = late_us;
        way->passed++;
        way->spare[way->spares++] = frame;
    }
    return way->held ? way->heap[1]->due : INT64_MAX;
}

static void forward(int fifo) {
    while (!ending) {
        int64_t next = release(&directions[0]), other = release(&directions[1]);
        if (other < next) next = other;
        int64_t wait = next == INT64_MAX ? SECOND : next - now();
        struct timespec timeout = {wait > 0 ? wait / SECOND : 0, wait > 0 ? wait % SECOND : 0};
        struct pollfd devices[2] = {{directions[0].from, POLLIN, 0}, {directions[1].from, POLLIN, 0}};
        if (ppoll(devices, 2, &timeout, NULL) < 0 && errno != EINTR) fail("ppoll");
        for (int each = 0; each < 2; each++)
            if (devices[each].revents & POLLIN) take(&directions[each], fifo);
    }
}

int main(int count, char **words) {
    if (count != 9) {
        fputs("linkemu NETNS_A TAP_A NETNS_B TAP_B SEED any|fifo A_TO_B B_TO_A\n", stderr);
        return 2;
    }
    state[0] = 0x9E3779B97F4A7C15ULL;
    state[1] = 2 * strtoull(words[5], NULL, 10) + 1;
    for (int turn = 0; turn < 20; turn++) chance();
    directions[0].from = directions[1].to = tap(atoi(words[1]), words[2]);
    directions[1].from = directions[0].to = tap(atoi(words[3]), words[4]);
    configure(&directions[0], words[7]);
    configure(&directions[1], words[8]);
    signal(SIGTERM, end);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* What is released late is late both ways: it must be microseconds, also on a busy machine. */
    struct sched_param priority = {.sched_priority = 50};
    if (sched_setscheduler(0, SCHED_FIFO, &priority)) perror("SCHED_FIFO");
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) perror("mlockall");
    puts("ready");
    fflush(stdout);
    forward(!strcmp(words[6], "fifo"));
    for (int each = 0; each < 2; each++) {
        struct direction *way = &directions[each];
        double passed = way->passed ? (double)way->passed : 1;
        fprintf(stderr, "{\"passed\": %lu, \"lost\": %lu, \"late_us\": %.1f, \"latest_us\": %.1f}\n", way->passed,
                way->lost, way->late_us / passed, way->latest_us);
    }
    return 0;
}
