/* The one file that knows libyaml: nested maps become dotted paths, lists of maps one line of JSON. */
#include "libkoal/base/config_priv.h"

#include "libkoal/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 6, PATH_BYTES = 128, NODES_MAX = 200000 };

struct walk {
    struct kl_config *config;                          /* for all, or a tenant's view */
    bool              of_tenant;
    yaml_document_t   doc;
    const char       *file;
    unsigned          nodes;                           /* visited: aliases may repeat some */
    /* Not NULL: what is wrong is told, and the rest is read all the same. */
    void            (*refused)(void *ctx, const struct kl_err *err);
    void             *ctx;
    struct kl_err    *err;
};

static void place(const struct walk *w, const yaml_node_t *n, char *out, size_t size)
{
    snprintf(out, size, "%.120s, line %zu, column %zu", w->file, n->start_mark.line + 1,
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

/* ---- lists of maps ---- */

static bool scalar_json(struct walk *w, const yaml_node_t *n, struct kl_buf *out)
{
    if (n == NULL || n->type != YAML_SCALAR_NODE || ++w->nodes > NODES_MAX)
        return false;
    kl_json_str(out, kl_span(n->data.scalar.value, n->data.scalar.length));
    return true;
}

static bool value_json(struct walk *w, const yaml_node_t *n, struct kl_buf *out)
{
    const char *comma = "";

    if (n == NULL || n->type != YAML_SEQUENCE_NODE)
        return scalar_json(w, n, out);
    kl_buf_adds(out, "[");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        kl_buf_adds(out, comma);
        if (!scalar_json(w, yaml_document_get_node(&w->doc, *i), out))
            return false;
        comma = ", ";
    }
    kl_buf_adds(out, "]");
    return true;
}

static bool map_json(struct walk *w, const yaml_node_t *n, struct kl_buf *out)
{
    const char *comma = "";

    if (n == NULL || n->type != YAML_MAPPING_NODE ||
        n->data.mapping.pairs.start == n->data.mapping.pairs.top)
        return false;
    kl_buf_adds(out, "{");
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        kl_buf_adds(out, comma);
        if (!scalar_json(w, yaml_document_get_node(&w->doc, p->key), out))
            return false;
        kl_buf_adds(out, ": ");
        if (!value_json(w, yaml_document_get_node(&w->doc, p->value), out))
            return false;
        comma = ", ";
    }
    kl_buf_adds(out, "}");
    return true;
}

/* Nothing at all (`write_relabel:`) is an empty list. */
static bool list_json(struct walk *w, const yaml_node_t *n, struct kl_buf *out)
{
    const char *comma = "";

    if (n == NULL || (n->type == YAML_SCALAR_NODE && n->data.scalar.length == 0)) {
        kl_buf_adds(out, "[]");
        return true;
    }
    if (n->type != YAML_SEQUENCE_NODE)
        return false;
    kl_buf_adds(out, "[");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        kl_buf_adds(out, comma);
        if (!kl_buf_ok(out) || !map_json(w, yaml_document_get_node(&w->doc, *i), out))
            return false;
        comma = ", ";
    }
    kl_buf_adds(out, "]");
    return true;
}

static enum kl_code load_document(struct kl_span yaml, const char *file, yaml_document_t *doc,
                                  struct kl_err *err)
{
    yaml_parser_t parser;
    yaml_event_t  next = { 0 };
    enum kl_code  code = KL_OK;
    bool          loaded;

    if (!yaml_parser_initialize(&parser))
        return kl_fail(err, KL_ELIMIT, "%s: no memory to read it", file);
    yaml_parser_set_input_string(&parser, yaml.at, yaml.size);
    loaded = yaml_parser_load(&parser, doc);
    if (!loaded || !yaml_parser_parse(&parser, &next))
        code = kl_fail(err, KL_EINVAL, "%s, line %zu, column %zu: %s", file,
                       parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                       parser.problem != NULL ? parser.problem : "not YAML");
    else if (next.type == YAML_DOCUMENT_START_EVENT)
        code = kl_fail(err, KL_EINVAL, "%s, line %zu, column %zu: a second document begins here, and only one is read: "
                       "put all into one, without ---", file, next.start_mark.line + 1, next.start_mark.column + 1);
    yaml_event_delete(&next);
    if (loaded && code != KL_OK)
        yaml_document_delete(doc);
    yaml_parser_delete(&parser);
    return code;
}

enum kl_code kl_config_list_text(struct kl_span yaml, struct kl_buf *out, struct kl_err *err)
{
    struct walk  w = { .err = err };
    enum kl_code code = load_document(yaml, "the list", &w.doc, err);

    if (code != KL_OK)
        return code;
    if (!list_json(&w, yaml_document_get_root_node(&w.doc), out))
        code = kl_fail(err, KL_EINVAL, "should be a list of maps, of plain values or lists of them");
    yaml_document_delete(&w.doc);
    return code;
}

struct fields {
    enum kl_code (*field)(void *ctx, size_t item, const char *key, size_t nth, struct kl_span value,
                          struct kl_err *err);
    void *ctx;
};

static enum kl_code each_value(struct walk *w, const struct fields *f, size_t item, const char *key,
                               const yaml_node_t *n)
{
    enum kl_code code = KL_OK;
    size_t       nth = 0;

    if (n->type == YAML_SCALAR_NODE)
        return f->field(f->ctx, item, key, 0,
                        kl_span(n->data.scalar.value, n->data.scalar.length), w->err);
    for (yaml_node_item_t *i = n->data.sequence.items.start;
         i < n->data.sequence.items.top && code == KL_OK; i++, nth++) {
        const yaml_node_t *x = yaml_document_get_node(&w->doc, *i);
        code = f->field(f->ctx, item, key, nth,
                        kl_span(x->data.scalar.value, x->data.scalar.length), w->err);
    }
    return code;
}

/* The text is in the form that list_json gives: nothing of its structure needs checking again. */
enum kl_code kl_config_list(const char *text,
                            enum kl_code (*field)(void *ctx, size_t item, const char *key, size_t nth,
                                                  struct kl_span value, struct kl_err *err),
                            void *ctx, struct kl_err *err)
{
    struct fields f = { field, ctx };
    struct walk   w = { .err = err };
    yaml_node_t  *root;
    enum kl_code  code = load_document(kl_span_str(text), "the list", &w.doc, err);

    if (code != KL_OK)
        return code;
    root = yaml_document_get_root_node(&w.doc);
    for (yaml_node_item_t *i = root->data.sequence.items.start;
         i < root->data.sequence.items.top && code == KL_OK; i++) {
        const yaml_node_t *m = yaml_document_get_node(&w.doc, *i);
        size_t item = (size_t)(i - root->data.sequence.items.start);
        for (yaml_node_pair_t *p = m->data.mapping.pairs.start;
             p < m->data.mapping.pairs.top && code == KL_OK; p++)
            code = each_value(&w, &f, item,
                              (const char *)yaml_document_get_node(&w.doc, p->key)->data.scalar.value,
                              yaml_document_get_node(&w.doc, p->value));
    }
    yaml_document_delete(&w.doc);
    return code;
}

/* ---- options ---- */

static enum kl_code set_scalar(struct walk *w, const yaml_node_t *key, const yaml_node_t *n, const char *path)
{
    const struct kl_option *o = kl_config_option(w->config, path);
    const yaml_node_t      *at = o == NULL ? key : n;   /* what is at fault where something is */
    struct kl_buf text;
    enum kl_code  code = KL_OK;

    if (o == NULL && kl_config_is_section(w->config, path))
        return refuse(w, n, path, "should hold a map of options");
    if (w->of_tenant && o != NULL && !o->per_tenant)
        return refuse(w, n, path, "cannot be said of one tenant; --help lists what can");
    kl_buf_init(&text, KL_CONFIG_TEXT_MAX);
    if (o != NULL && o->type == KL_OPT_LIST && n->type == YAML_SEQUENCE_NODE) {
        if (!list_json(w, n, &text))
            code = refuse(w, n, path, "should be a list of maps, of plain values or lists of them");
    } else if (n->type == YAML_SEQUENCE_NODE)
        code = join(w, n, path, &text);
    else
        kl_buf_add(&text, n->data.scalar.value, n->data.scalar.length);
    kl_buf_add8(&text, 0);
    if (code == KL_OK && !kl_buf_ok(&text))
        code = refuse(w, n, path, "is too long");
    if (code == KL_OK)
        code = kl_config_set(w->config, path, text.at,
                             (struct kl_config_place){ KL_FROM_FILE, (uint32_t)at->start_mark.line + 1,
                                                       (uint32_t)at->start_mark.column + 1 }, w->err);
    kl_buf_deinit(&text);
    return code;
}

static enum kl_code map(struct walk *w, const yaml_node_t *n, const char *path, unsigned depth);

/* Names may hold dots, so they are no part of a path. */
static enum kl_code tenant(struct walk *w, const yaml_node_t *n, const yaml_node_t *key, const yaml_node_t *value)
{
    struct kl_config *all = w->config;
    enum kl_code      code;
    struct kl_span    name;

    if (key == NULL || value == NULL || key->type != YAML_SCALAR_NODE || ++w->nodes > NODES_MAX)
        return refuse(w, n, "tenants", "should be a map of tenants");
    name = kl_span(key->data.scalar.value, key->data.scalar.length);
    if (!kl_tenant_ok(name))
        return refuse(w, key, "tenants", "holds what is no tenant's name: 1 to 150 letters, "
                      "digits, '.', '_' and '-', not \".\", \"..\", \"LOCK\", \"ENCRYPTED\" or .put-");
    if (value->type != YAML_MAPPING_NODE)
        return refuse(w, value, name.at, "should hold a map of options");
    w->config = kl_config_tenant_add(all, name);
    w->of_tenant = true;
    code = w->config == NULL ? refuse(w, key, name.at, "is given twice, or one tenant too many")
                             : map(w, value, "", 1);
    w->config = all;
    w->of_tenant = false;
    return code;
}

static enum kl_code tenants(struct walk *w, const yaml_node_t *n)
{
    enum kl_code code = KL_OK;

    for (yaml_node_pair_t *p = n->data.mapping.pairs.start;
         p < n->data.mapping.pairs.top && code == KL_OK; p++) {
        code = tenant(w, n, yaml_document_get_node(&w->doc, p->key), yaml_document_get_node(&w->doc, p->value));
        if (code != KL_OK && w->refused != NULL) {
            w->refused(w->ctx, w->err);
            code = KL_OK;
        }
    }
    return code;
}

/* Of what it holds the first that is a value tells best what was meant: "limit: {past: 1h}". */
static enum kl_code no_section(struct walk *w, const yaml_node_t *key, const yaml_node_t *value,
                               const char *path)
{
    const yaml_node_t *inner = NULL;
    char               below[PATH_BYTES + 64], near[120], words[240];

    if (value->data.mapping.pairs.start < value->data.mapping.pairs.top)
        inner = yaml_document_get_node(&w->doc, value->data.mapping.pairs.start->key);
    snprintf(below, sizeof below, "%s%s%.60s", path, inner != NULL ? "." : "",
             inner != NULL && inner->type == YAML_SCALAR_NODE ? (const char *)inner->data.scalar.value : "");
    kl_config_near(w->config->table, below, near, sizeof near);
    snprintf(words, sizeof words, "is no section of options%s", near);
    return refuse(w, key, path, words);
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
        if (depth == 0 && strcmp(below, "tenants") == 0 && value->type == YAML_MAPPING_NODE)
            code = tenants(w, value);
        else if (depth == 0 && strcmp(below, "tenants") == 0)
            code = refuse(w, value, below, "should be a map of tenants");
        else if (value->type != YAML_MAPPING_NODE)
            code = set_scalar(w, key, value, below);
        else if (depth == DEPTH_MAX || !kl_config_is_section(w->config, below))
            code = no_section(w, key, value, below);
        else
            code = map(w, value, below, depth + 1);
        if (code != KL_OK && w->refused == NULL)
            return code;
        if (code != KL_OK)
            w->refused(w->ctx, w->err);
    }
    return KL_OK;
}

static enum kl_code read_whole(struct walk *w, struct kl_span yaml, unsigned depth)
{
    yaml_node_t *root;
    enum kl_code code = load_document(yaml, w->file, &w->doc, w->err);

    if (code != KL_OK)
        return code;
    root = yaml_document_get_root_node(&w->doc);
    if (root != NULL && root->type == YAML_MAPPING_NODE)
        code = map(w, root, "", depth);
    else if (root != NULL)
        code = refuse(w, root, w->of_tenant ? "what is said of a tenant" : "the file",
                      "should be a map of options");
    yaml_document_delete(&w->doc);
    return code;
}

enum kl_code kl_config_yaml(struct kl_config *c, struct kl_span yaml,
                            void (*refused)(void *ctx, const struct kl_err *err), void *ctx, struct kl_err *err)
{
    struct walk w = { .config = c, .file = c->file != NULL ? c->file : "the file", .refused = refused, .ctx = ctx,
                      .err = err };

    return read_whole(&w, yaml, 0);
}

enum kl_code kl_config_yaml_view(struct kl_config *view, const char *source, struct kl_span yaml,
                                 void (*refused)(void *ctx, const struct kl_err *err), void *ctx,
                                 struct kl_err *err)
{
    struct walk w = { .config = view, .of_tenant = true, .file = source, .refused = refused, .ctx = ctx,
                      .err = err };

    free(view->file);
    view->file = kl_strdup(source);
    return read_whole(&w, yaml, 1);
}
