/* The end of an ingestor of a cell, with real threads: for `make V=tsan check`. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ingestor/ingestor.h"

enum { PARTITIONS = 4 };

static char folder[] = "/tmp/koa-end-XXXXXX";

static struct kl_env_dir *enter(struct kl_env_dir *root, const char *name)
{
    struct kl_env_dir *d;
    struct kl_err      err = { 0 };

    ck_assert_msg(root->enter(root, name, true, &d, &err) == KL_OK, "%s", err.text);
    return d;
}

/* Its partitions look after their leases until they are stopped, and are stopped after the member's loop has ended. */
START_TEST(it_may_end_while_its_partitions_look_after_their_leases)
{
    struct kl_env              *env = kl_env_real_new(2);
    struct kl_env_dir          *root, *bus_dir, *data_dir, *store_dir;
    struct kl_bus_local_options b = { .partitions = PARTITIONS, .fsync_ms = 1000 };
    struct ing_options          o = { .name = "a", .loops = 2, .partitions = PARTITIONS, .window_ms = 7200000,
                                      .cut_delay_ms = 600000, .census_ms = 1000 };
    struct ing_cluster_options  co = { .zone = "z", .address = "", .version = "v", .capacity = 10, .heartbeat_ms = 20,
                                       .silent_ms = 1000, .gone_ms = 10000 };
    struct kl_metrics          *metrics = kl_metrics_new();
    struct kl_store            *store;
    struct ing_ingestor        *ing;
    struct kl_bus              *bus;
    struct kl_err               err = { 0 };
    char                        command[64];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_msg(kl_env_dir_real_open(folder, true, &root, &err) == KL_OK, "%s", err.text);
    bus_dir = enter(root, "bus");
    data_dir = enter(root, "data");
    store_dir = enter(root, "store");
    store = kl_store_dir_new(store_dir);
    ck_assert_msg(kl_bus_local_open(env, bus_dir, &b, &bus, &err) == KL_OK, "%s", err.text);
    o.metrics = metrics;
    ing = ing_new(env, bus, data_dir, store, &o);
    ck_assert_msg(ing_join(ing, &co, &err) == KL_OK, "%s", err.text);
    nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);       /* some looks */
    bus->close(bus);
    ing_free(ing);
    bus->free(bus);
    store->close(store);
    store_dir->leave(store_dir);
    data_dir->leave(data_dir);
    bus_dir->leave(bus_dir);
    root->leave(root);
    kl_metrics_free(metrics);
    kl_env_real_free(env);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("ingestor/end");
    TCase   *t = tcase_create("end");
    SRunner *r;
    int      failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, it_may_end_while_its_partitions_look_after_their_leases);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
