USES := 
LIBS := -lxxhash -lisal -lre2 -lyaml -lstdc++ -lm
