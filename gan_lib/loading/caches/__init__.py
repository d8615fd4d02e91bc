"""Local copies that spare later epochs the store or the decoder, and the choice between them."""
