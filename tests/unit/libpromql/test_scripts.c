/* Every script of a folder: tests/promql, or what KOA_PROMQL_SCRIPTS names. */
#include "tests/suite.h"
#include "tests/unit/libpromql/script_run.h"

#include <dirent.h>

enum { SCRIPTS_MAX = 256 };

static char *read_whole(const char *path)
{
    FILE  *f = fopen(path, "rb");
    char  *text;
    long   size;

    if (f == NULL)
        return NULL;
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    text = calloc(1, (size_t)size + 1);
    if (fread(text, 1, (size_t)size, f) != (size_t)size)
        abort();
    fclose(f);
    return text;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

START_TEST(every_eval_of_every_script_answers_as_expected)
{
    const char    *folder = getenv("KOA_PROMQL_SCRIPTS"), *plain = getenv("KOA_PROMQL_PLAIN");
    char          *names[SCRIPTS_MAX];
    size_t         count = 0, evals = 0, passed = 0;
    DIR           *d;
    struct dirent *entry;

    setvbuf(stdout, NULL, _IOLBF, 0);
    folder = folder != NULL ? folder : "tests/promql";
    d = opendir(folder);
    ck_assert_msg(d != NULL, "no folder %s", folder);
    while ((entry = readdir(d)) != NULL && count < SCRIPTS_MAX) {
        size_t n = strlen(entry->d_name);
        if (n > 5 && strcmp(entry->d_name + n - 5, ".test") == 0)
            names[count++] = strdup(entry->d_name);
    }
    closedir(d);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        char           path[1024], *text;
        struct script *s = calloc(1, sizeof *s);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        text = read_whole(path);
        s->no_variants = plain != NULL;
        script_run(s, text);
        printf("%s: %zu of %zu\n", names[i], s->passed, s->evals);
        evals += s->evals;
        passed += s->passed;
        free(text);
        free(s);
        free(names[i]);
    }
    ck_assert_msg(count > 0 && passed == evals, "%zu of %zu evals in %zu scripts", passed, evals, count);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("promql scripts");
    TCase *t = tcase_create("scripts");

    tcase_set_timeout(t, 600);
    tcase_add_test(t, every_eval_of_every_script_answers_as_expected);
    suite_add_tcase(s, t);
    return run_suite(s);
}
