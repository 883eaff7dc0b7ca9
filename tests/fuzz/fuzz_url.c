/* Whatever a client writes into a request line and the headers we read: no read or write outside. */
#include "libkoal/http/http_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_http_params params = { 0 };
    struct kl_http_path   path;
    struct kl_http_listen listen;
    struct kl_err         err;
    const char           *wild;
    char                 *text = kl_new(size + 1), *copy = kl_new(size + 1);

    if (size > 0)
        memcpy(text, data, size);
    memcpy(copy, text, size);
    if (kl_http_params_add(&params, copy, size, &err) == KL_OK)
        for (size_t i = 0; i < params.count; i++) {
            const struct kl_http_param *p = &params.at[i];
            assert(p->name + strlen(p->name) <= copy + size);
            assert(p->value + p->value_size <= copy + size && p->value[p->value_size] == '\0');
            assert(kl_http_params_find(&params, p->name, 0) != NULL);
        }
    free(params.at);
    free(copy);

    if (kl_http_path_init(&path, text, strcspn(text, "?"), &err) == KL_OK) {
        kl_http_path_match(&path, "/api/v1/label/*/values", &wild);
        kl_http_path_match(&path, "/", &wild);
        if (kl_http_path_match(&path, "/*", &wild))
            assert(path.count == 1 && strcmp(path.whole + 1, wild) == 0);
    }
    kl_http_path_deinit(&path);
    kl_http_coding_of(text);
    kl_http_list_has(text, "GET");
    if (kl_http_listen_parse(text, &listen, &err) == KL_OK)
        assert(strlen(listen.port) < sizeof listen.port && strlen(listen.host) <= KL_HTTP_HOST_MAX);
    free(text);
    return 0;
}
