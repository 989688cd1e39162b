module webhook

go 1.21
