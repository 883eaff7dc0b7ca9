USES := libkoal/base libkoal/crypt libkoal/http
