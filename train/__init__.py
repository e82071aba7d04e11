"""The training side: data sets made of chats. Imports ``serve.store``, never the gateway."""
