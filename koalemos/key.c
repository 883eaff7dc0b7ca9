/*
 * `koalemos key new|list|revoke --file FILE`: the file that auth.keys.file names. A running server reads
 * it again by itself within seconds. A secret is shown once, on stdout, and nowhere kept.
 */
#include "koalemos/secure.h"

#include "libkoal/auth/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos key new --file FILE --roles ROLES --tenants TENANTS [--rate N]\n"
    "       koalemos key list --file FILE\n"
    "       koalemos key revoke --file FILE ID\n"
    "\n"
    "  FILE is what auth.keys.file names; `new` makes it where it is missing. `new` prints the key, ID.SECRET,\n"
    "  on stdout: the only time that it is shown, for the file holds a digest of it.\n"
    "  --roles     of read, write, rules, admin: a list with commas; none implies another\n"
    "  --tenants   names with commas, the first where a request names none; or * for all, and for what\n"
    "              belongs to the cell (/metrics, flags, orders to it)\n"
    "  --rate      requests a second; without: auth.rate\n";

struct asked { const char *file, *roles, *tenants, *rate, *id; bool help; };

static bool read_args(struct asked *a, int argc, char **argv, int first)
{
    for (int i = first; i < argc; i++) {
        const char **to = strcmp(argv[i], "--file") == 0 ? &a->file : strcmp(argv[i], "--roles") == 0 ? &a->roles
                        : strcmp(argv[i], "--tenants") == 0 ? &a->tenants : strcmp(argv[i], "--rate") == 0 ? &a->rate
                        : NULL;

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            a->help = true;
        } else if (to != NULL && i + 1 < argc) {
            *to = argv[++i];
        } else if (argv[i][0] != '-' && a->id == NULL) {
            a->id = argv[i];
        } else {
            fprintf(stderr, "koalemos key: \"%.80s\" is not understood\n%s", argv[i], usage);
            return false;
        }
    }
    return true;
}

static int failed(const struct kl_err *err)
{
    fprintf(stderr, "koalemos key: %s\n", err->text);
    return 1;
}

static int new_key(const struct asked *a)
{
    struct kl_buf line = { 0 };
    struct kl_err err;
    char          shown[KL_AUTH_SHOWN_MAX], *end = NULL;
    unsigned long rate = a->rate != NULL ? strtoul(a->rate, &end, 10) : 0;
    int           status = 0;

    if (a->roles == NULL || a->tenants == NULL ||
        (a->rate != NULL && (*end != '\0' || rate == 0 || rate > KL_AUTH_RATE_MAX))) {
        fprintf(stderr, "koalemos key: new wants --roles and --tenants, and a --rate is 1 to %d\n%s", KL_AUTH_RATE_MAX,
                usage);
        return 2;
    }
    if (kl_auth_key_new(a->roles, a->tenants, (uint32_t)rate, &line, shown, &err) != KL_OK) {
        status = failed(&err);
    } else {
        kl_buf_add(&line, "", 1);
        if (kl_auth_file_add(a->file, line.at, &err) == KL_OK)
            printf("%s\n", shown);
        else
            status = failed(&err);
    }
    kl_wipe(shown, sizeof shown);
    kl_buf_deinit(&line);
    return status;
}

static int list(const struct asked *a)
{
    struct kl_auth_keys keys;
    struct kl_err       err;
    char               *bytes;
    size_t              size;

    if (kl_auth_file_read(a->file, &bytes, &size, NULL, &err) != KL_OK)
        return failed(&err);
    (void)kl_auth_keys_parse(kl_span(bytes, size), &keys, &err);
    free(bytes);
    if (err.code != KL_OK)
        return failed(&err);
    for (size_t i = 0; i < keys.count; i++) {
        const struct kl_auth_key *k = &keys.at[i];
        struct kl_buf             b = { 0 };

        kl_buf_addf(&b, "%s ", k->id);
        kl_auth_roles_print(k->roles, &b);
        kl_buf_adds(&b, k->everywhere ? " *" : " ");
        for (size_t t = 0; t < k->tenant_count; t++)
            kl_buf_addf(&b, "%s%s", t > 0 ? "," : "", k->tenants[t]);
        if (k->rate > 0)
            kl_buf_addf(&b, " rate=%u", (unsigned)k->rate);
        printf("%.*s\n", (int)b.size, b.at);
        kl_buf_deinit(&b);
    }
    kl_auth_keys_free(&keys);
    return 0;
}

int koalemos_key(int argc, char **argv, int first)
{
    struct asked  a = { 0 };
    struct kl_err err;
    const char   *what = first < argc ? argv[first] : "";

    if (!read_args(&a, argc, argv, first + (what[0] != '\0' && what[0] != '-')))
        return 2;
    if (a.help) {
        fputs(usage, stdout);
        return 0;
    }
    if (a.file != NULL && strcmp(what, "new") == 0 && a.id == NULL)
        return new_key(&a);
    if (a.file != NULL && strcmp(what, "list") == 0 && a.id == NULL)
        return list(&a);
    if (a.file != NULL && strcmp(what, "revoke") == 0 && a.id != NULL)
        return kl_auth_file_remove(a.file, a.id, &err) == KL_OK ? 0 : failed(&err);
    fputs(usage, stderr);
    return 2;
}
