/* Orders of label sets, kept. */
#include <check.h>
#include <stdlib.h>

#include "querier/qr_priv.h"
#include "tests/suite.h"

START_TEST(an_order_that_was_kept_comes_back_until_it_is_not_used)
{
    static struct qr_orders o;
    uint32_t                index[100], got[100];
    struct kl_fp            key = { 1, 2 };
    unsigned                kept = 0;

    for (uint32_t i = 0; i < 100; i++)
        index[i] = 99 - i;
    ck_assert(!qr_orders_get(&o, key, got, 100));
    qr_orders_put(&o, key, index, 100);
    ck_assert(qr_orders_get(&o, key, got, 100));
    ck_assert_mem_eq(got, index, sizeof got);
    ck_assert(!qr_orders_get(&o, key, got, 99));
    ck_assert(!qr_orders_get(&o, (struct kl_fp){ 2, 1 }, got, 100));
    for (uint64_t k = 10; k < 10 + 2 * QR_ORDERS_MAX; k++)
        qr_orders_put(&o, (struct kl_fp){ k, k }, index, 100);
    ck_assert(atomic_load(&o.full));
    qr_orders_trim(&o, INT64_C(1) << 40);              /* each was used when it came */
    ck_assert(qr_orders_get(&o, key, got, 100));
    qr_orders_put(&o, (struct kl_fp){ 3, 3 }, index, 100);
    qr_orders_trim(&o, INT64_C(1) << 41);
    for (uint64_t k = 10; k < 10 + 2 * QR_ORDERS_MAX; k++)
        kept += qr_orders_get(&o, (struct kl_fp){ k, k }, got, 100);
    ck_assert_uint_eq(kept, 0);
    ck_assert(qr_orders_get(&o, key, got, 100));
    qr_orders_free(&o);
    ck_assert_uint_eq(atomic_load(&o.bytes), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("order");
    TCase *t = tcase_create("all");

    tcase_add_test(t, an_order_that_was_kept_comes_back_until_it_is_not_used);
    suite_add_tcase(s, t);
    return run_suite(s);
}
