#ifndef TEST_S3_H
#define TEST_S3_H
/*
 * The S3 service that tests/rgw.sh starts, as it is told in the environment. Without one the tests
 * that need it are left out, loudly.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libkoal/store/store.h"

enum { S3_WAIT_S = 300 };

static inline const char *s3_env(const char *name)
{
    const char *v = getenv(name);

    return v != NULL && v[0] != '\0' ? v : NULL;
}

/* Waits until the service is up; false: there is none to be had. */
static inline bool s3_there(void)
{
    const char *ready = s3_env("KOA_S3_READY");
    char        words[400] = "";

    if (s3_env("KOA_S3_ENDPOINT") == NULL) {
        fprintf(stderr, "libkoal/store: SKIPPED on S3: no KOA_S3_ENDPOINT (run below tests/rgw.sh)\n");
        return false;
    }
    for (int i = 0; ready != NULL && i < 10 * S3_WAIT_S; i++) {
        FILE *f = fopen(ready, "r");

        if (f != NULL) {
            words[fread(words, 1, sizeof words - 1, f)] = '\0';
            fclose(f);
            break;
        }
        usleep(100000);
    }
    if (ready != NULL && strcmp(words, "up\n") != 0) {
        fprintf(stderr, "libkoal/store: %s\n", words[0] != '\0' ? words : "S3 did not come up");
        exit(1);
    }
    return true;
}

static inline void s3_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* Options for it; the keys go to files in `folder`, `prefix` is made up. */
struct s3_kit { char access[100], secret[100], prefix[64]; struct kl_store_s3_options o; };
static inline void s3_kit(struct s3_kit *k, struct kl_env *env, const char *folder)
{
    snprintf(k->access, sizeof k->access, "%s/access", folder);
    snprintf(k->secret, sizeof k->secret, "%s/secret", folder);
    snprintf(k->prefix, sizeof k->prefix, "unit/%016llx", (unsigned long long)kl_env_draw(env));
    s3_write(k->access, s3_env("KOA_S3_ACCESS_KEY"));
    s3_write(k->secret, s3_env("KOA_S3_SECRET_KEY"));
    k->o = (struct kl_store_s3_options){
        .endpoint = s3_env("KOA_S3_ENDPOINT"), .region = "us-east-1", .bucket = s3_env("KOA_S3_BUCKET"),
        .prefix = k->prefix, .path_style = true, .conditional_put = KL_STORE_S3_ON,
        .access_key_file = k->access, .secret_key_file = k->secret,
        .part_bytes = KL_STORE_S3_PART_MIN, .list_page = 5 };
}
#endif
