/* The configuration, without running anything: is a file one, its schema, its page. */
#include "koalemos/config.h"

#include "doorman/bootstrap.h"
#include "libkoal/app/app.h"
#include "libkoal/store/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char check_usage[] =
    "usage: koalemos check-config FILE...\n"
    "\n"
    "Says of each file whether it is a configuration, by exactly what a service would say at its start; of one that is\n"
    "not, line and column of all that is wrong. Neither the environment nor the network are looked at.\n";

/* What the services find wrong when they start, beyond the table. */
static enum kl_code check_services(const struct kl_config *c, struct kl_err *err)
{
    struct tsp_placement   *placement = NULL;
    struct kl_store_options store;
    const char             *url = kl_config_text(c, "store.url"), *dir = kl_config_text(c, "store.dir");
    char                    where[300];

    if (kl_config_text(c, "placement.static")[0] != '\0' &&
        dm_placement_parse(kl_config_text(c, "placement.static"), (uint32_t)kl_config_int(c, "partitions"),
                           &placement, err) != KL_OK) {
        kl_config_where(c, "placement.static", where, sizeof where);
        return kl_within(err, "%s: placement.static", where);
    }
    tsp_placement_free(placement);
    if ((url != NULL || dir != NULL) && kl_store_options_read(c, &store, err) != KL_OK) {
        kl_config_where(c, url != NULL ? "store.url" : "store.dir", where, sizeof where);
        return kl_within(err, "%s", where);
    }
    return KL_OK;
}

/* Of many faults the first are enough to begin with. */
enum { FAULTS_MAX = 20 };

static void tell(void *ctx, const struct kl_err *err)
{
    size_t *told = ctx;

    if (++*told <= FAULTS_MAX)
        fprintf(stderr, "koalemos check-config: %s\n", err->text);
}

/* False: what is wrong was told. */
static bool check_file(const char *path)
{
    struct kl_config *c = NULL;
    struct kl_err     err;
    char             *yaml = NULL;
    size_t            size = 0, told = 0;
    enum kl_code      code = kl_app_read_file(path, &yaml, &size, &err);

    if (code == KL_OK && kl_config_faults(kl_app_options, path, kl_span(yaml, size), tell, &told) > 0) {
        if (told > FAULTS_MAX)
            fprintf(stderr, "koalemos check-config: %s: and %zu more\n", path, told - FAULTS_MAX);
        free(yaml);
        return false;
    }
    if (code == KL_OK)
        code = kl_config_load(kl_app_options, path, kl_span(yaml, size), NULL, NULL, &c, &err);
    if (code == KL_OK)
        code = kl_app_check(c, &err);
    if (code == KL_OK)
        code = check_services(c, &err);
    if (code != KL_OK)
        tell(&told, &err);
    kl_config_free(c);
    free(yaml);
    return code == KL_OK;
}

int koalemos_check_config(int argc, char **argv, int first)
{
    int status = 0;

    if (first >= argc || argv[first][0] == '-') {
        bool asked = first < argc && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0);
        fputs(check_usage, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    for (int i = first; i < argc; i++)
        if (check_file(argv[i]))
            printf("%s: good\n", argv[i]);
        else
            status = 1;
    return status;
}

int koalemos_config(int argc, char **argv, int first)
{
    static const char usage[] =
        "usage: koalemos config schema|page\n"
        "\n"
        "  schema    the file's JSON schema, for editors\n"
        "  page      deploy/CONFIG.md: every option there is\n";
    const char   *what = first < argc ? argv[first] : "";
    struct kl_buf out = { 0 };

    if (strcmp(what, "schema") == 0)
        kl_config_schema(kl_app_options, &out);
    else if (strcmp(what, "page") == 0)
        kl_app_config_page(&out);
    else {
        bool asked = strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0;
        fputs(usage, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    fwrite(out.at, 1, out.size, stdout);
    kl_buf_deinit(&out);
    return fflush(stdout) == 0 ? 0 : 1;
}
