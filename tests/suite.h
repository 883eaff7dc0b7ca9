#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H
/* How the main of every suite of tests ends. */
#include <check.h>

/* Runs all of it, as told by the environment (CK_VERBOSITY, CK_RUN_CASE and the like), and frees it.
 * What main returns: 0 where all of it held. */
static inline int run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);
    int      failed;

    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
#endif
