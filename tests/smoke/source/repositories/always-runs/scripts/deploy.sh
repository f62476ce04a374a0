#!/bin/sh -e
aws deploy create-deployment --application-name "$1"
