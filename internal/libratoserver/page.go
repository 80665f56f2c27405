// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

package libratoserver

import (
	"embed"
	"io/fs"
	"net/http"
)

// pageFiles is the page. uPlot, which draws the chart, is uplot 1.6.32 from npm, unchanged, under the MIT licence
// (uPlot.LICENSE).
//
//go:embed page
var pageFiles embed.FS

// routePage adds the page at /. Names come from outside: the page writes them as text only, and the policy lets
// nothing run but its own files.
func (s *Server) routePage(mux *http.ServeMux) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	serve := http.FileServerFS(files)
	mux.HandleFunc("/{file...}", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			notFound.write(w)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		serve.ServeHTTP(w, r)
	})
}
