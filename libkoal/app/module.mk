USES := libkoal/base libkoal/env libkoal/http libkoal/auth
