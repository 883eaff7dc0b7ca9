USES := libkoal/base libkoal/env libkoal/http
LIBS := -lcurl
