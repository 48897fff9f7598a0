"""Commands of the method `text_guided`, reached by its name: one file each."""
