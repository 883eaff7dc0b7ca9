/* The one file that knows libyaml: nested maps become dotted paths. */
#include "libkoal/base/config_priv.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 6, PATH_BYTES = 128, NODES_MAX = 10000 };

struct walk {
    struct kl_config *config;
    yaml_document_t   doc;
    const char       *file;
    unsigned          nodes;                           /* visited: aliases may repeat some */
    struct kl_err    *err;
};

static void place(const struct walk *w, const yaml_node_t *n, char *out, size_t size)
{
    snprintf(out, size, "%s, line %zu, column %zu", w->file, n->start_mark.line + 1,
             n->start_mark.column + 1);
}

static enum kl_code refuse(struct walk *w, const yaml_node_t *n, const char *path, const char *why)
{
    char where[200];

    place(w, n, where, sizeof where);
    return kl_fail(w->err, KL_EINVAL, "%s: %.100s %s", where, path, why);
}

/* A list of scalars is the text of its items with commas between. */
static enum kl_code join(struct walk *w, const yaml_node_t *n, const char *path, struct kl_buf *text)
{
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(&w->doc, *i);
        if (item == NULL || item->type != YAML_SCALAR_NODE || ++w->nodes > NODES_MAX)
            return refuse(w, n, path, "should be a plain list");
        if (text->size > 0)
            kl_buf_add8(text, ',');
        kl_buf_add(text, item->data.scalar.value, item->data.scalar.length);
    }
    return KL_OK;
}

static enum kl_code set_scalar(struct walk *w, const yaml_node_t *n, const char *path)
{
    struct kl_buf text;
    char          where[200];
    enum kl_code  code = KL_OK;

    if (kl_config_is_section(w->config, path))
        return refuse(w, n, path, "should hold a map of options");
    kl_buf_init(&text, 64 * 1024);
    if (n->type == YAML_SEQUENCE_NODE)
        code = join(w, n, path, &text);
    else
        kl_buf_add(&text, n->data.scalar.value, n->data.scalar.length);
    kl_buf_add8(&text, 0);
    place(w, n, where, sizeof where);
    if (code == KL_OK && !kl_buf_ok(&text))
        code = refuse(w, n, path, "is too long");
    if (code == KL_OK)
        code = kl_config_set(w->config, path, text.at, where, w->err);
    kl_buf_deinit(&text);
    return code;
}

static enum kl_code map(struct walk *w, const yaml_node_t *n, const char *path, unsigned depth)
{
    yaml_node_pair_t *begin = n->data.mapping.pairs.start;

    for (yaml_node_pair_t *p = begin; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(&w->doc, p->key);
        yaml_node_t *value = yaml_document_get_node(&w->doc, p->value);
        char         below[PATH_BYTES];
        enum kl_code code;

        if (key == NULL || value == NULL || key->type != YAML_SCALAR_NODE || ++w->nodes > NODES_MAX ||
            (size_t)snprintf(below, sizeof below, "%s%s%s", path, path[0] != '\0' ? "." : "",
                             (const char *)key->data.scalar.value) >= sizeof below)
            return refuse(w, n, path, "holds a key that is no option");
        for (yaml_node_pair_t *q = begin; q < p; q++) {
            yaml_node_t *other = yaml_document_get_node(&w->doc, q->key);
            if (strcmp((const char *)other->data.scalar.value, (const char *)key->data.scalar.value) == 0)
                return refuse(w, key, below, "is given twice");
        }
        if (value->type != YAML_MAPPING_NODE)
            code = set_scalar(w, value, below);
        else if (depth == DEPTH_MAX || !kl_config_is_section(w->config, below))
            code = refuse(w, key, below, "is no section of options; --help lists them");
        else
            code = map(w, value, below, depth + 1);
        if (code != KL_OK)
            return code;
    }
    return KL_OK;
}

enum kl_code kl_config_yaml(struct kl_config *c, const char *file, struct kl_span yaml,
                            struct kl_err *err)
{
    struct walk   w = { .config = c, .file = file, .err = err };
    yaml_parser_t parser;
    yaml_node_t  *root;
    enum kl_code  code = KL_OK;

    if (!yaml_parser_initialize(&parser))
        return kl_fail(err, KL_ELIMIT, "%s: no memory to read it", file);
    yaml_parser_set_input_string(&parser, yaml.at, yaml.size);
    if (!yaml_parser_load(&parser, &w.doc)) {
        code = kl_fail(err, KL_EINVAL, "%s, line %zu, column %zu: %s", file,
                       parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                       parser.problem != NULL ? parser.problem : "not YAML");
    } else {
        root = yaml_document_get_root_node(&w.doc);
        if (root != NULL && root->type == YAML_MAPPING_NODE)
            code = map(&w, root, "", 0);
        else if (root != NULL)
            code = refuse(&w, root, "the file", "should be a map of options");
        yaml_document_delete(&w.doc);
    }
    yaml_parser_delete(&parser);
    return code;
}
