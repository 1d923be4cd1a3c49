"""Development tools: synthetic takes and the training of the small model. They import the product,
which never imports them."""
