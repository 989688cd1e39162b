// A server that speaks MongoDB's wire protocol, for tests: FerretDB with its SQLite backend.
// Arguments: the address to listen on, the folder for its data and, for TLS, files of its certificate and key.
// Ends with its standard input.
package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	var listener ferretdb.ListenerConfig
	switch len(os.Args) {
	case 3:
		listener.TCP = os.Args[1]
	case 5:
		listener.TLS, listener.TLSCertFile, listener.TLSKeyFile = os.Args[1], os.Args[3], os.Args[4]
	default:
		log.Fatal("usage: mongo ADDRESS FOLDER [CERTIFICATE KEY]")
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  listener,
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Handler:   "sqlite",
		SQLiteURL: "file:" + os.Args[2] + "/",
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := server.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
