/* libkoal/store/store_flights: who asks for what is on its way waits for it; what is slow is asked for again. */
#include "libkoal/store/store.h"
#include "tests/suite.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A store of one object whose gets wait for a word: each is told how it shall end, in the order they come. */
enum how { WAITS, ANSWERS, FAILS };
static struct {
    struct kl_store store;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    enum how        plan[64];                          /* of the n-th get */
    unsigned        gets, ended;
} inner;
static struct kl_env   *env;
static struct kl_store *s;

static enum kl_code inner_get(struct kl_store *store, const char *key, uint64_t offset, void *bytes, size_t size,
                              struct kl_err *err)
{
    unsigned n;
    enum how how;

    (void)store;
    pthread_mutex_lock(&inner.lock);
    n = inner.gets++;
    pthread_cond_broadcast(&inner.changed);
    while ((how = inner.plan[n]) == WAITS)
        pthread_cond_wait(&inner.changed, &inner.lock);
    inner.ended++;
    pthread_mutex_unlock(&inner.lock);
    if (how == FAILS)
        return kl_fail(err, KL_EAGAIN, "get %u of %s failed", n, key);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)((offset + i) * 7);
    return KL_OK;
}

static void tell(unsigned n, enum how how)
{
    pthread_mutex_lock(&inner.lock);
    inner.plan[n] = how;
    pthread_cond_broadcast(&inner.changed);
    pthread_mutex_unlock(&inner.lock);
}

/* Until so many gets have come to the inner store. */
static void wait_gets(unsigned n)
{
    pthread_mutex_lock(&inner.lock);
    while (inner.gets < n)
        pthread_cond_wait(&inner.changed, &inner.lock);
    pthread_mutex_unlock(&inner.lock);
}

struct asker { pthread_t thread; uint64_t offset; size_t size; enum kl_code code; struct kl_err err;
               struct kl_store_tally t; };

static void *ask(void *ctx)
{
    struct asker *a = ctx;
    uint8_t      *bytes = malloc(a->size);

    a->code = kl_store_get(s, "o/1", a->offset, bytes, a->size, &a->t, &a->err);
    for (size_t i = 0; a->code == KL_OK && i < a->size; i++)
        if (bytes[i] != (uint8_t)((a->offset + i) * 7))
            abort();
    free(bytes);
    return NULL;
}

static void go(struct asker *a, uint64_t offset, size_t size)
{
    *a = (struct asker){ .offset = offset, .size = size };
    ck_assert_int_eq(pthread_create(&a->thread, NULL, ask, a), 0);
}

static enum kl_code end(struct asker *a)
{
    pthread_join(a->thread, NULL);
    return a->code;
}

static void setup(void)
{
    memset(&inner, 0, sizeof inner);
    pthread_mutex_init(&inner.lock, NULL);
    pthread_cond_init(&inner.changed, NULL);
    inner.store.get = inner_get;
    env = kl_env_real_new(1);
    s = kl_store_flights_new(env, &inner.store, 10, NULL);
}

static void teardown(void)
{
    for (unsigned i = 0; i < 64; i++)
        tell(i, ANSWERS);
    s->close(s);
    kl_env_real_free(env);
}

START_TEST(who_asks_for_what_is_on_its_way_waits_for_it)
{
    struct asker a[8];
    uint64_t     own = 0, shared = 0;

    go(&a[0], 1000, 50000);
    wait_gets(1);
    for (unsigned i = 1; i < 8; i++)
        go(&a[i], 1000 + i * 100, 50000 - 1000);
    usleep(20000);                                     /* they may come later, and ask themselves: not here */
    ck_assert_uint_eq(inner.gets, 1);
    for (unsigned i = 0; i < 64; i++)
        tell(i, ANSWERS);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(end(&a[i]), KL_OK);
        own += a[i].t.store_bytes;
        shared += a[i].t.shared_bytes;
    }
    ck_assert_uint_eq(own + shared, 50000 + 7 * 49000);
    ck_assert_uint_ge(own, 50000);
}
END_TEST

START_TEST(a_range_that_reaches_beyond_is_asked_for_by_itself)
{
    struct asker a, b;

    go(&a, 0, 1000);
    wait_gets(1);
    go(&b, 500, 1000);
    wait_gets(2);
    tell(1, ANSWERS);
    ck_assert_int_eq(end(&b), KL_OK);
    tell(0, ANSWERS);
    ck_assert_int_eq(end(&a), KL_OK);
}
END_TEST

START_TEST(a_slow_one_is_asked_for_again_and_the_first_answer_counts)
{
    struct asker a;

    tell(1, ANSWERS);
    go(&a, 0, 1000);
    ck_assert_int_eq(end(&a), KL_OK);                  /* by the second; the first still waits */
    ck_assert_uint_eq(inner.gets, 2);
    ck_assert_uint_eq(inner.ended, 1);
}
END_TEST

START_TEST(a_failure_counts_when_nothing_better_can_come)
{
    struct asker a;

    go(&a, 0, 1000);
    wait_gets(2);
    tell(0, FAILS);
    usleep(5000);
    tell(1, ANSWERS);
    ck_assert_int_eq(end(&a), KL_OK);
    tell(2, FAILS);
    go(&a, 5000, 1000);
    ck_assert_int_eq(end(&a), KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(a.err.text, "get 2 of o/1"));
    tell(3, ANSWERS);                                  /* and nobody else gets it */
    go(&a, 5000, 1000);
    ck_assert_int_eq(end(&a), KL_OK);
}
END_TEST

START_TEST(where_all_are_slow_few_are_asked_for_again)
{
    enum { MANY = 20 };
    struct asker a[MANY];
    unsigned     gets;

    for (unsigned i = 0; i < MANY; i++)
        go(&a[i], i * 10000, 100);
    wait_gets(MANY + 1);
    usleep(700000);                                    /* past the time of a hedge */
    gets = inner.gets;
    ck_assert_uint_le(gets, MANY + 8);
    for (unsigned i = 0; i < 64; i++)
        tell(i, ANSWERS);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(end(&a[i]), KL_OK);
}
END_TEST

START_TEST(while_requests_wait_for_a_thread_none_is_asked_for_again)
{
    enum { MANY = 32 + 1 };
    struct asker a[MANY];

    for (unsigned i = 0; i < MANY; i++)
        go(&a[i], i * 10000, 100);
    wait_gets(32);
    usleep(700000);                                    /* past the time of a hedge */
    for (unsigned i = 0; i < 64; i++)
        tell(i, ANSWERS);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(end(&a[i]), KL_OK);
    ck_assert_uint_eq(inner.gets, MANY);
}
END_TEST

static enum kl_code inner_get_tallied(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                                      size_t size, struct kl_store_tally *t, struct kl_err *err)
{
    t->requests += 2;
    t->store_bytes += 65536 + 64;
    return inner_get(store, key, offset, bytes, size, err);
}

START_TEST(what_the_store_below_took_is_told_to_who_asked_for_it)
{
    struct asker a, b;

    inner.store.get_tallied = inner_get_tallied;
    go(&a, 0, 1000);
    wait_gets(1);
    go(&b, 100, 500);
    usleep(100000);                                    /* the second may come later, and ask itself: not here */
    tell(0, ANSWERS);
    ck_assert_int_eq(end(&a), KL_OK);
    ck_assert_int_eq(end(&b), KL_OK);
    ck_assert_uint_eq(a.t.requests, 2);
    ck_assert_uint_eq(a.t.store_bytes, 65536 + 64);
    ck_assert_uint_eq(b.t.requests, 0);
    ck_assert_uint_eq(b.t.shared_bytes, 500);
}
END_TEST

START_TEST(what_was_asked_for_ahead_is_there)
{
    struct asker a;

    tell(0, ANSWERS);
    s->ahead(s, "o/1", 0, 100000);
    wait_gets(1);
    go(&a, 100, 50000);
    ck_assert_int_eq(end(&a), KL_OK);
    go(&a, 60000, 40000);
    ck_assert_int_eq(end(&a), KL_OK);
    ck_assert_uint_eq(inner.gets, 1);
    ck_assert_uint_eq(a.t.shared_bytes, 40000);
    s->ahead(s, "o/1", 0, 64 << 20);                   /* more than is kept */
    s->ahead(s, "not a key", 0, 10);
    for (unsigned i = 1; i < 40; i++) {                /* the oldest go */
        tell(i, ANSWERS);
        s->ahead(s, "o/1", 1000000 * (uint64_t)i, 1000);
        wait_gets(i + 1);
    }
    tell(40, ANSWERS);
    go(&a, 0, 10);
    ck_assert_int_eq(end(&a), KL_OK);
    ck_assert_uint_eq(a.t.store_bytes, 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libkoal/store/store_flights");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, who_asks_for_what_is_on_its_way_waits_for_it);
    tcase_add_test(t, a_range_that_reaches_beyond_is_asked_for_by_itself);
    tcase_add_test(t, a_slow_one_is_asked_for_again_and_the_first_answer_counts);
    tcase_add_test(t, a_failure_counts_when_nothing_better_can_come);
    tcase_add_test(t, where_all_are_slow_few_are_asked_for_again);
    tcase_add_test(t, while_requests_wait_for_a_thread_none_is_asked_for_again);
    tcase_add_test(t, what_the_store_below_took_is_told_to_who_asked_for_it);
    tcase_add_test(t, what_was_asked_for_ahead_is_there);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
