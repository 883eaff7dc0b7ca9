/* The machine's own clock and randomness, and an env of them with real scheduling. */
#include "libkoal/env/env.h"

#include "libkoal/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct real {
    struct kl_env        env;
    struct kl_env_clock  clock;
    struct kl_env_random random;
};

static int64_t wall_ms(struct kl_env_clock *c)
{
    struct timespec t;

    (void)c;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t mono_ns(struct kl_env_clock *c)
{
    struct timespec t;

    (void)c;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fill(struct kl_env_random *r, void *bytes, size_t size)
{
    char *at = bytes;

    (void)r;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {                                   /* ids that could repeat are worse than an end */
            fprintf(stderr, "the system gives no random bytes: %s\n", strerror(errno));
            abort();
        }
        at += n;
        size -= (size_t)n;
    }
}

struct kl_env *kl_env_real_new(unsigned workers)
{
    struct real *r = kl_new(sizeof *r);

    r->clock = (struct kl_env_clock){ .wall_ms = wall_ms, .mono_ns = mono_ns };
    r->random = (struct kl_env_random){ .fill = fill };
    r->env = (struct kl_env){ .clock = &r->clock, .random = &r->random,
                              .sched = kl_env_sched_real_new(workers) };
    return &r->env;
}

void kl_env_real_free(struct kl_env *e)
{
    if (e == NULL)
        return;
    kl_env_sched_real_free(e->sched);
    free(kl_container_of(e, struct real, env));
}
